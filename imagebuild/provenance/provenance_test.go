package provenance_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	slsa "github.com/in-toto/attestation/go/predicates/provenance/v1"
	intoto "github.com/in-toto/attestation/go/v1"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/board"
	"github.com/toolshed-cloud/shed/attest/release"
	"github.com/toolshed-cloud/shed/imagebuild/lock"
	"github.com/toolshed-cloud/shed/imagebuild/provenance"
)

func file(name string) release.File {
	return release.File{Name: name, SHA256: attest.Sum([]byte(name)), Bytes: 1}
}

func manifest() *release.Manifest {
	return &release.Manifest{
		Version: "1.2.3", Epoch: 4, Architecture: "amd64", Disk: file("disk.raw"), UKI: file("uki.efi"),
		Firmware: &release.Firmware{
			Code: file("firmware.fd"), Variables: file("variables.fd"), SecureBoot: true,
			Shapes: []release.Shape{{Shape: board.Shape{VCPUs: 2, MemoryBytes: 1 << 30}}},
		},
		Inputs: []release.Input{{Name: "init", SHA256: attest.Sum([]byte("init")), Bytes: 1}},
	}
}

var packages = []lock.Package{{Name: "libx", Version: "1+b", Architecture: "amd64", Suite: "bookworm", SHA256: attest.Sum([]byte("libx"))}}

func statement(t *testing.T, m *release.Manifest) []byte {
	t.Helper()
	b, err := provenance.Of(m, packages, "go1.26.8", attest.Sum([]byte("source")))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestLibraryReadsIt has in-toto's own library read and judge the statement.
func TestLibraryReadsIt(t *testing.T) {
	b := statement(t, manifest())
	var s intoto.Statement
	if err := protojson.Unmarshal(b, &s); err != nil {
		t.Fatal(err)
	}
	if err := s.Validate(); err != nil {
		t.Error(err)
	}
	predicate, err := protojson.Marshal(s.GetPredicate())
	if err != nil {
		t.Fatal(err)
	}
	var p slsa.Provenance
	if err := protojson.Unmarshal(predicate, &p); err != nil {
		t.Fatal(err)
	}
	if err := p.Validate(); err != nil {
		t.Error(err)
	}
	if s.GetPredicateType() != "https://slsa.dev/provenance/v1" || p.GetBuildDefinition().GetBuildType() != provenance.BuildType {
		t.Errorf("types %s, %s", s.GetPredicateType(), p.GetBuildDefinition().GetBuildType())
	}
	if p.GetRunDetails().GetMetadata() != nil {
		t.Error("it says when or by whom it was built")
	}
	subjects := map[string]string{}
	for _, r := range s.GetSubject() {
		subjects[r.GetName()] = r.GetDigest()["sha256"]
	}
	for _, name := range []string{"disk.raw", "uki.efi", "firmware.fd", "variables.fd"} {
		if subjects[name] != attest.Sum([]byte(name)).String() {
			t.Errorf("subject %s is %q", name, subjects[name])
		}
	}
	found := map[string]bool{}
	for _, r := range p.GetBuildDefinition().GetResolvedDependencies() {
		if err := r.Validate(); err != nil {
			t.Errorf("%v: %v", r, err)
		}
		found[r.GetDigest()["sha256"]] = true
	}
	for _, part := range []string{"init", "libx", "source"} {
		if !found[attest.Sum([]byte(part)).String()] {
			t.Errorf("%s is no dependency", part)
		}
	}
}

// TestAgainIsAsMadeNow wants the statement of a manifest that changed to be that
// of one which was so from the start.
func TestAgainIsAsMadeNow(t *testing.T) {
	old := statement(t, manifest())
	m := manifest()
	m.UKI.SHA256 = attest.Sum([]byte("signed"))
	m.Inputs = append(m.Inputs, release.Input{Name: "uki.efi.p7", SHA256: attest.Sum([]byte("p7")), Bytes: 2})
	got, err := provenance.Again(old, m)
	if err != nil || !bytes.Equal(got, statement(t, m)) {
		t.Errorf("%s, %v", got, err)
	}
	for name, other := range map[string][]byte{
		"another type": bytes.Replace(old, []byte("Statement/v1"), []byte("Statement/v2"), 1),
		"a field more": bytes.Replace(old, []byte(`"subject"`), []byte(`"more": 1, "subject"`), 1),
		"spelling":     bytes.Replace(old, []byte("  "), []byte("   "), 1),
		"nothing":      nil,
		"too much":     []byte(strings.Repeat(" ", provenance.MaxBytes+1)),
	} {
		if _, err := provenance.Again(other, m); !errors.Is(err, provenance.ErrStatement) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzAgain(f *testing.F) {
	b, err := provenance.Of(manifest(), packages, "go1.26.8", attest.Digest{})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"_type":"https://in-toto.io/Statement/v1"}`))
	f.Fuzz(func(t *testing.T, old []byte) {
		made, err := provenance.Again(old, manifest())
		if err != nil {
			return
		}
		if again, err := provenance.Again(made, manifest()); err != nil || !bytes.Equal(again, made) {
			t.Errorf("made again it is %s, %v", again, err)
		}
	})
}
