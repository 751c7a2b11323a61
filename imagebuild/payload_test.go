package imagebuild_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/toolshed-cloud/shed/agent/esp"
	"github.com/toolshed-cloud/shed/agent/verity"
	"github.com/toolshed-cloud/shed/attest/payload"
	"github.com/toolshed-cloud/shed/attest/release"
	"github.com/toolshed-cloud/shed/imagebuild"
)

// server is a program that needs nothing, and what is declared of it.
func server(t *testing.T, o *imagebuild.Options) {
	t.Helper()
	dir := t.TempDir()
	source := filepath.Join(t.TempDir(), "main.go")
	if err := os.WriteFile(source, []byte("package main\n\nfunc main() {}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", "build", "-buildvcs=false", "-trimpath", "-ldflags=-s -w", "-o", filepath.Join(dir, "srv/server"), source)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	spec := payload.Default()
	spec.Command = []string{"/srv/server", "--quiet"}
	spec.Network = payload.Network{Right: payload.Listed, Hosts: []payload.Host{{Name: "example.com", Port: 443}}}
	o.Payload, o.PayloadDir, o.Toolshed = &spec, dir, ""
}

// large makes it too large for the image.
func large(t *testing.T, o *imagebuild.Options) {
	t.Helper()
	b := make([]byte, 9<<20)
	rand.NewChaCha8([32]byte{2}).Read(b) //nolint:errcheck // it has no errors
	if err := os.WriteFile(filepath.Join(o.PayloadDir, "data.bin"), b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// A payload goes into the image or beside it, is declared in the manifest, comes
// out the same once more, and is rebuilt from what was archived; with Secure Boot
// too.
func TestPayload(t *testing.T) {
	if testing.Short() {
		t.Skip("building images takes seconds")
	}
	for _, onDisk := range []bool{false, true} {
		o := sampleOptions(t)
		o.Archive = filepath.Join(t.TempDir(), "archive")
		server(t, &o)
		if onDisk {
			large(t, &o)
		}
		keys, signer := ownKeys(t)
		o.SecureBootKeys = keys
		m := built(t, o)
		if m.Schema != release.SchemaPayload || m.Payload == nil || !slices.Equal(m.Payload.Command, o.Payload.Command) || (m.Payload.Root != nil) != onDisk {
			t.Fatalf("the manifest declares %+v", m.Payload)
		}
		once := contents(t, o.Output)
		again := o
		again.Output = t.TempDir()
		built(t, again)
		for name, digest := range contents(t, again.Output) {
			if once[name] != digest {
				t.Errorf("on disk %v: %s differs from build to build", onDisk, name)
			}
		}
		if err := imagebuild.SignImage(o.Output, o.Archive, signer, nil); err != nil {
			t.Fatal(err)
		}
		image := contentOf(t, filepath.Join(o.Output, imagebuild.UKIName))
		if onDisk {
			checkOnDisk(t, o.Output, image, m.Payload.Root)
		} else if bytes.Contains(image, []byte("shed.payload=")) {
			t.Error("the command line names a root for a payload in the image")
		}
		if r := mustRebuild(t, o.Output, o.Archive); !r.Same {
			t.Errorf("on disk %v: rebuilt with differences %+v", onDisk, r.Differences)
		}
	}
}

// checkOnDisk looks for the root where a machine does.
func checkOnDisk(t *testing.T, dir string, image []byte, root *release.Root) {
	t.Helper()
	known := verity.Root{Hash: root.RootHash, DataBytes: root.DataBytes}
	if !bytes.Contains(image, []byte(known.Parameter())) {
		t.Errorf("the command line does not say %s", known.Parameter())
	}
	f, err := os.OpenFile(filepath.Join(dir, imagebuild.DiskName), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	v, err := esp.Open(f)
	if err != nil {
		t.Fatal(err)
	}
	r, err := v.Reader(known.FileName())
	if err != nil {
		t.Fatal(err)
	}
	var stored bytes.Buffer
	if _, err := stored.ReadFrom(r); err != nil {
		t.Fatal(err)
	}
	if file := contentOf(t, filepath.Join(dir, imagebuild.PayloadName)); !bytes.Equal(stored.Bytes(), file) || int64(len(file)) != known.Bytes() || int64(len(file)) != root.File.Bytes {
		t.Errorf("the boot disk has %d bytes, %s %d", stored.Len(), imagebuild.PayloadName, len(file))
	}
	again, _, err := verity.Tree(bytes.NewReader(stored.Bytes()[:known.DataBytes]))
	if err != nil || again != known {
		t.Errorf("the data's hash is %s, and the manifest says %s, error %v", again.Hash, known.Hash, err)
	}
}

// Another declaration is another image.
func TestDeclarationIsMeasured(t *testing.T) {
	o := sampleOptions(t)
	server(t, &o)
	first := built(t, o)
	o.Output = t.TempDir()
	o.Payload.Network.Right, o.Payload.Network.Hosts = payload.Open, nil
	second := built(t, o)
	for _, register := range []string{"9", "11"} {
		if first.Boots[0].SHA256[register] == second.Boots[0].SHA256[register] {
			t.Errorf("register %s is the same for another network right", register)
		}
	}
}

func TestPayloadsThatAreRefused(t *testing.T) {
	for want, change := range map[string]func(*imagebuild.Options){
		"payload is unset":         func(o *imagebuild.Options) { o.PayloadDir = "" },
		"no such file":             func(o *imagebuild.Options) { o.PayloadDir += "/absent" },
		"the program /bin/other":   func(o *imagebuild.Options) { o.Payload.Command = []string{"/bin/other"} },
		"the program other":        func(o *imagebuild.Options) { o.Payload.Command = []string{"other"} },
		"user is 0":                func(o *imagebuild.Options) { o.Payload.User = 0 },
		"the machine mounts there": func(o *imagebuild.Options) { writeFile(t, filepath.Join(o.PayloadDir, "dev"), "") },
		"image for arm64":          func(o *imagebuild.Options) { o.Architecture = "arm64" },
	} {
		o := sampleOptions(t)
		server(t, &o)
		change(&o)
		if o.Architecture == "arm64" {
			o.Stub, o.Mkfs = imagebuild.DefaultStub, imagebuild.DefaultMkfs
		}
		if _, err := imagebuild.Build(t.Context(), o); err == nil || !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	var missing *imagebuild.PayloadMissingError
	o := sampleOptions(t)
	server(t, &o)
	writeFile(t, filepath.Join(o.PayloadDir, "srv/script"), "#!/usr/bin/python3\n")
	o.Payload.Command = []string{"/srv/script"}
	if _, err := imagebuild.Build(t.Context(), o); !errors.As(err, &missing) || missing.Name != "/usr/bin/python3" {
		t.Errorf("%v", err)
	}
}

func writeFile(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
}
