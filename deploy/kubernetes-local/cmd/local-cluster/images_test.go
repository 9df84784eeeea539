package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"testing"
)

func TestShortNamesOfImagesAreCompleted(t *testing.T) {
	for short, full := range map[string]string{
		"starling:0.1.0":            "docker.io/library/starling:0.1.0",
		"someone/starling:next":     "docker.io/someone/starling:next",
		"starling.local/pause:1":    "starling.local/pause:1",
		"registry:5000/gateway:1":   "registry:5000/gateway:1",
		"registry.example/a/b:next": "registry.example/a/b:next",
	} {
		if got := fullName(short); got != full {
			t.Errorf("%s became %s", short, got)
		}
	}
}

func TestAnImageHoldsItsProgramUnderTheDigestThatItsConfigurationNames(t *testing.T) {
	folder := t.TempDir()
	program := filepath.Join(folder, "program")
	if err := os.WriteFile(program, []byte("a program"), 0o755); err != nil {
		t.Fatal(err)
	}
	archive := filepath.Join(folder, "image.tar")
	if err := writeImage(archive, "name:tag", program); err != nil {
		t.Fatal(err)
	}
	files := filesOf(t, archive)
	var manifest []struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	if err := json.Unmarshal(files["manifest.json"], &manifest); err != nil {
		t.Fatal(err)
	}
	if manifest[0].RepoTags[0] != "name:tag" {
		t.Errorf("the image is called %s", manifest[0].RepoTags[0])
	}
	var config struct {
		Config struct{ User string }
		Rootfs struct {
			DiffIDs []string `json:"diff_ids"`
		}
	}
	if err := json.Unmarshal(files[manifest[0].Config], &config); err != nil {
		t.Fatal(err)
	}
	layer := sha256.Sum256(files[manifest[0].Layers[0]])
	if want := "sha256:" + hex.EncodeToString(layer[:]); config.Rootfs.DiffIDs[0] != want {
		t.Errorf("the layer is %s, the configuration says %s", want, config.Rootfs.DiffIDs[0])
	}
	if config.Config.User != "65532:65532" {
		t.Errorf("the program runs as %q", config.Config.User)
	}
}

func filesOf(t *testing.T, archive string) map[string][]byte {
	t.Helper()
	data, err := os.ReadFile(archive)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	in := tar.NewReader(bytes.NewReader(data))
	for {
		header, err := in.Next()
		if err == io.EOF {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		if files[header.Name], err = io.ReadAll(in); err != nil {
			t.Fatal(err)
		}
	}
}
