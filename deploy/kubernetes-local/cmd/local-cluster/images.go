package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// writeImage writes an archive, in the form that `docker save` gives, of an image with one static program and nothing else.
func writeImage(archive, name, program string) error {
	layer, err := layerOf(program)
	if err != nil {
		return err
	}
	digest := sha256.Sum256(layer)
	config, err := json.Marshal(map[string]any{
		"architecture": runtime.GOARCH,
		"os":           runtime.GOOS,
		"config": map[string]any{
			"Entrypoint": []string{"/" + filepath.Base(program)},
			"Env":        []string{"PATH=/"},
			"User":       "65532:65532",
			"WorkingDir": "/",
			// A difference between two images of the same program.
			"Labels": map[string]string{"org.opencontainers.image.ref.name": name},
		},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + hex.EncodeToString(digest[:])}},
	})
	if err != nil {
		return err
	}
	sum := sha256.Sum256(config)
	configName := hex.EncodeToString(sum[:]) + ".json"
	manifest, err := json.Marshal([]map[string]any{{
		"Config": configName, "RepoTags": []string{name}, "Layers": []string{"layer.tar"},
	}})
	if err != nil {
		return err
	}
	file, err := os.Create(archive)
	if err != nil {
		return err
	}
	defer file.Close()
	out := tar.NewWriter(file)
	for _, entry := range []struct {
		name string
		data []byte
	}{{"layer.tar", layer}, {configName, config}, {"manifest.json", manifest}} {
		header := &tar.Header{Name: entry.name, Mode: 0o644, Size: int64(len(entry.data))}
		if err := out.WriteHeader(header); err != nil {
			return err
		}
		if _, err := out.Write(entry.data); err != nil {
			return err
		}
	}
	if err := out.Close(); err != nil {
		return err
	}
	return file.Close()
}

// layerOf makes the only layer: the program, and folders that a program expects.
func layerOf(program string) ([]byte, error) {
	file, err := os.Open(program)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	var layer bytes.Buffer
	out := tar.NewWriter(&layer)
	for _, folder := range []string{"etc/", "tmp/", "data/"} {
		header := &tar.Header{Typeflag: tar.TypeDir, Name: folder, Mode: 0o755}
		if folder == "data/" {
			header.Uid, header.Gid = 65532, 65532
		}
		if err := out.WriteHeader(header); err != nil {
			return nil, err
		}
	}
	header := &tar.Header{Name: filepath.Base(program), Mode: 0o755, Size: info.Size()}
	if err := out.WriteHeader(header); err != nil {
		return nil, err
	}
	if _, err := io.Copy(out, file); err != nil {
		return nil, err
	}
	err = out.Close()
	return layer.Bytes(), err
}

// fullName is the name under which containerd keeps an image that Kubernetes calls by a short one.
func fullName(name string) string {
	if first, _, ok := strings.Cut(name, "/"); ok && strings.ContainsAny(first, ".:") {
		return name
	} else if ok {
		return "docker.io/" + name
	}
	return "docker.io/library/" + name
}

// loadImages gives containerd the images.
func loadImages(work string, images []string) error {
	for number, image := range images {
		name, program, _ := strings.Cut(image, "=")
		archive := filepath.Join(work, fmt.Sprintf("image-%d.tar", number))
		if err := writeImage(archive, fullName(name), program); err != nil {
			return fmt.Errorf("make the image %s: %w", name, err)
		}
		if err := run("ctr", "--address", containerdSocket, "--namespace", "k8s.io", "images", "import", archive); err != nil {
			return err
		}
		if err := os.Remove(archive); err != nil {
			return err
		}
	}
	return nil
}
