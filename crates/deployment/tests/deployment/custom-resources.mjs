// Checks custom resources of Kubernetes as strictly as its API server does with `kubectl apply --validate=strict`: by the types of
// @kubernetes-models, which know every field, and by its validators, which also know ranges and patterns.
//
// Arguments: the folder of the npm packages, then a file with a JSON list of resources. Prints each error; exits with 1 if there is one.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const [folder, file] = process.argv.slice(2);
const models = {
  "monitoring.coreos.com": "prometheus-operator",
  "keda.sh": "keda",
  "gateway.networking.k8s.io": "gateway-api",
  "external-secrets.io": "external-secrets",
};
const resources = JSON.parse(readFileSync(file, "utf8"));
const errors = [];
let source = "";

for (const [index, resource] of resources.entries()) {
  const [group, version] = resource.apiVersion.split("/");
  const module = `@kubernetes-models/${models[group]}/${group}/${version}/${resource.kind}`;
  const { [resource.kind]: Model } = await import(pathToFileURL(join(folder, "node_modules", `${module}.js`)));
  try {
    new Model(resource).validate();
  } catch (error) {
    errors.push(`${resource.kind} ${resource.metadata?.name}: ${error.message}`);
  }
  source += `import type { I${resource.kind} as I${index} } from ${JSON.stringify(module)};\n`;
  source += `export const r${index}: I${index} = ${JSON.stringify(resource, null, 1)};\n`;
}

const ts = createRequire(join(folder, "package.json"))("typescript");
const name = join(folder, "resources.ts");
const options = {
  strict: true,
  noEmit: true,
  skipLibCheck: true,
  types: [],
  lib: ["lib.es2022.d.ts"],
  module: ts.ModuleKind.ESNext,
  moduleResolution: ts.ModuleResolutionKind.Bundler,
};
const host = ts.createCompilerHost(options);
const { getSourceFile, fileExists, readFile } = host;
host.getSourceFile = (path, target) =>
  path === name ? ts.createSourceFile(path, source, target) : getSourceFile.call(host, path, target);
host.fileExists = (path) => path === name || fileExists.call(host, path);
host.readFile = (path) => (path === name ? source : readFile.call(host, path));
const program = ts.createProgram([name], options, host);
for (const { file, start, messageText } of ts.getPreEmitDiagnostics(program)) {
  const line = file ? source.slice(0, start).split("\n").length : 0;
  errors.push(`${source.split("\n")[line - 1] ?? ""}: ${ts.flattenDiagnosticMessageText(messageText, "\n")}`);
}
for (const error of errors) console.error(error);
process.exitCode = errors.length > 0 ? 1 : 0;
