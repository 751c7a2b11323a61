package sbom_test

import (
	"bytes"
	"debug/buildinfo"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/imagebuild/lock"
	"github.com/toolshed-cloud/shed/imagebuild/sbom"
)

// program is one with modules: Go notes none in a test.
var program = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "sbom-*")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	out := filepath.Join(dir, "program")
	cmd := exec.Command("go", "build", "-buildvcs=false", "-ldflags=-s -w", "-o", out, "../internal/testinit")
	if text, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, text)
	}
	return os.ReadFile(out)
})

// sample has a part of every kind.
func sample(t *testing.T) sbom.Image {
	t.Helper()
	data, err := program()
	if err != nil {
		t.Fatal(err)
	}
	of := func(name string, use lock.Use, file string) lock.Package {
		return lock.Package{
			Name: name, Version: "1:2.3+deb12u1", Architecture: "amd64", Suite: "bookworm", Use: use,
			SHA256: attest.Sum([]byte(name)), Bytes: 1, Files: []lock.File{{Path: file, SHA256: attest.Sum([]byte(file))}},
		}
	}
	file := func(name string) sbom.File { return sbom.File{Path: name, SHA256: attest.Sum([]byte(name))} }
	return sbom.Image{
		Version: "1.2.3", Architecture: "amd64",
		Packages: []lock.Package{of("linux-image", lock.Kernel, "boot/vmlinuz"), of("libx", lock.Files, "lib/libx.so"), of("ovmf", lock.Firmware, "code.fd")},
		Modules:  []sbom.File{file("lib/modules/a.ko"), file("lib/modules/b.ko")},
		Programs: []sbom.Program{
			{File: sbom.File{Path: "init", SHA256: attest.Sum(data)}, Data: data},
			{File: sbom.File{Path: "bin/script", SHA256: attest.Sum([]byte("#!"))}, Data: []byte("#!")},
		},
		Others: []sbom.File{file("db.esl")},
	}
}

func encoded(t *testing.T, i sbom.Image) []byte {
	t.Helper()
	b, err := i.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestSameImageSameBytes(t *testing.T) {
	one := sample(t)
	b := encoded(t, one)
	if !bytes.Equal(b, encoded(t, one)) {
		t.Error("encoding twice gives two texts")
	}
	for _, part := range []string{"timestamp", "serialNumber"} {
		if bytes.Contains(b, []byte(part)) {
			t.Errorf("it has a %s", part)
		}
	}
	one.Others[0].SHA256 = attest.Digest{1}
	if bytes.Equal(b, encoded(t, one)) {
		t.Error("another part gives the same list")
	}
}

// TestEveryPartIsListed wants each part with its digest, and the modules that Go
// says the program is built from.
func TestEveryPartIsListed(t *testing.T) {
	i := sample(t)
	text := string(encoded(t, i))
	var digests []attest.Digest
	for _, p := range i.Packages {
		digests = append(digests, p.SHA256, p.Files[0].SHA256)
	}
	for _, f := range append(i.Modules, i.Others...) {
		digests = append(digests, f.SHA256)
	}
	for _, p := range i.Programs {
		digests = append(digests, p.SHA256)
	}
	for _, d := range digests {
		if strings.Count(text, d.String()) != 1 {
			t.Errorf("digest %s is there %d times", d, strings.Count(text, d.String()))
		}
	}
	for _, want := range []string{
		`"purl": "pkg:deb/debian/libx@1:2.3%2Bdeb12u1?arch=amd64&distro=bookworm"`,
		`"purl": "pkg:golang/stdlib@1.`, `"specVersion": "1.6"`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("it has no %s", want)
		}
	}
	info, err := buildinfo.Read(bytes.NewReader(i.Programs[0].Data))
	if err != nil || len(info.Deps) == 0 {
		t.Fatalf("the program does not know its modules: %v", err)
	}
	for _, m := range info.Deps {
		if !strings.Contains(text, `"version": "`+m.Version+`"`) || !strings.Contains(text, `"name": "`+m.Path+`"`) {
			t.Errorf("module %s %s is not listed", m.Path, m.Version)
		}
	}
}

// TestValidatorTakesIt has CycloneDX's own library hold the list against the
// schema, and the authors of package URLs read ours.
func TestValidatorTakesIt(t *testing.T) {
	python := os.Getenv("SHED_CYCLONEDX")
	if python == "" {
		t.Skip("no validator: SHED_CYCLONEDX names a Python with cyclonedx-python-lib (make test)")
	}
	const validate = `
import json, sys
from cyclonedx.validation.json import JsonStrictValidator
from cyclonedx.schema import SchemaVersion
from packageurl import PackageURL
text = open(sys.argv[1]).read()
error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
if error: sys.exit("not valid: %s" % error)
count = [0]
def walk(c):
    if "purl" in c: PackageURL.from_string(c["purl"]); count[0] += 1
    for inner in c.get("components", []): walk(inner)
walk(json.loads(text))
print(count[0])
`
	file := filepath.Join(t.TempDir(), "sbom.cdx.json")
	b := encoded(t, sample(t))
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(python, "-c", validate, file).CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) == "0" {
		t.Fatalf("%v: %s", err, out)
	}
	var loose map[string]any
	if err := json.Unmarshal(b, &loose); err != nil {
		t.Fatal(err)
	}
	loose["components"] = []any{map[string]any{"name": "of no type"}}
	broken, err := json.Marshal(loose)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, broken, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(python, "-c", validate, file).CombinedOutput(); err == nil {
		t.Errorf("the validator takes a broken list: %s", out)
	}
}
