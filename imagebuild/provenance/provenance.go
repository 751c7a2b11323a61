// Package provenance says how an image came to be: SLSA's predicate in an
// in-toto statement.
//
// Invariants: it says what a manifest and a lock say, and nothing of who ran the
// build, where or when, so that whoever makes the same image makes the same
// statement. It is not signed by itself: the manifest names its digest.
package provenance

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/release"
	"github.com/toolshed-cloud/shed/attest/strictjson"
	"github.com/toolshed-cloud/shed/imagebuild/lock"
	"github.com/toolshed-cloud/shed/imagebuild/sbom"
	"github.com/toolshed-cloud/shed/imagebuild/source"
)

// The types that the statement names.
const (
	statementType = "https://in-toto.io/Statement/v1"
	predicateType = "https://slsa.dev/provenance/v1"
	// BuildType says how the fields are to be read.
	BuildType = "https://" + source.Module + "/blob/main/docs/decisions/0075-a-lock-for-images.md"
	builderID = "https://" + source.Module + "/cmd/shed-image"
)

// MaxBytes caps a statement that is read.
const MaxBytes = 1 << 20

// ErrStatement says that something is no statement of ours.
var ErrStatement = errors.New("unusable provenance")

type statement struct {
	Type          string     `json:"_type"`
	Subject       []resource `json:"subject"`
	PredicateType string     `json:"predicateType"`
	Predicate     predicate  `json:"predicate"`
}

type predicate struct {
	BuildDefinition definition `json:"buildDefinition"`
	RunDetails      details    `json:"runDetails"`
}

type definition struct {
	BuildType            string     `json:"buildType"`
	ExternalParameters   parameters `json:"externalParameters"`
	ResolvedDependencies []resource `json:"resolvedDependencies"`
}

// parameters are what somebody chose.
type parameters struct {
	Version      string   `json:"version"`
	Epoch        uint64   `json:"epoch"`
	Architecture string   `json:"architecture"`
	Shapes       []string `json:"shapes,omitempty"`
	SecureBoot   bool     `json:"secureBoot,omitempty"`
}

type details struct {
	Builder struct {
		ID string `json:"id"`
	} `json:"builder"`
}

// resource is in-toto's ResourceDescriptor. An input of the manifest has no URI.
type resource struct {
	Name   string            `json:"name,omitempty"`
	URI    string            `json:"uri,omitempty"`
	Digest map[string]string `json:"digest,omitempty"`
}

func sha256(d attest.Digest) map[string]string { return map[string]string{"sha256": d.String()} }

// Of is the statement about the image of a manifest that is complete but for its
// documents. packages are those that something was taken from; sourceDigest is
// zero where nobody said from which source the programs were built.
func Of(m *release.Manifest, packages []lock.Package, goVersion string, sourceDigest attest.Digest) ([]byte, error) {
	s := statement{Type: statementType, PredicateType: predicateType}
	s.Predicate.RunDetails.Builder.ID = builderID
	d := &s.Predicate.BuildDefinition
	d.BuildType = BuildType
	d.ExternalParameters = parameters{Version: m.Version, Epoch: m.Epoch, Architecture: m.Architecture, SecureBoot: m.SecureBootOnly()}
	for i := range m.ShapeCount() {
		d.ExternalParameters.Shapes = append(d.ExternalParameters.Shapes, m.Shape(i).String())
	}
	for _, p := range packages {
		d.ResolvedDependencies = append(d.ResolvedDependencies, resource{URI: sbom.PackageURL(p), Digest: sha256(p.SHA256)})
	}
	d.ResolvedDependencies = append(d.ResolvedDependencies, resource{URI: "pkg:golang/toolchain@" + strings.TrimPrefix(goVersion, "go")})
	if !sourceDigest.IsZero() {
		d.ResolvedDependencies = append(d.ResolvedDependencies, resource{URI: "git+https://" + source.Module, Digest: sha256(sourceDigest)})
	}
	s.about(m)
	return s.encode()
}

// about sets what follows from the manifest's files and inputs.
func (s *statement) about(m *release.Manifest) {
	files := []release.File{m.Disk, m.UKI}
	if m.Firmware != nil {
		files = append(files, m.Firmware.Code, m.Firmware.Variables)
	}
	if m.Payload != nil && m.Payload.Root != nil {
		files = append(files, m.Payload.Root.File)
	}
	slices.SortFunc(files, func(a, b release.File) int { return cmp.Compare(a.Name, b.Name) })
	s.Subject = nil
	for _, f := range files {
		s.Subject = append(s.Subject, resource{Name: f.Name, Digest: sha256(f.SHA256)})
	}
	d := &s.Predicate.BuildDefinition
	d.ResolvedDependencies = slices.DeleteFunc(d.ResolvedDependencies, func(r resource) bool { return r.URI == "" })
	for _, in := range m.Inputs {
		d.ResolvedDependencies = append(d.ResolvedDependencies, resource{Name: in.Name, Digest: sha256(in.SHA256)})
	}
}

// Again is a statement made by Of, about the manifest as it is now: signing an
// image for Secure Boot changes it. Errors match ErrStatement.
func Again(old []byte, m *release.Manifest) ([]byte, error) {
	if len(old) > MaxBytes {
		return nil, fmt.Errorf("%w: it has %d bytes, at most %d", ErrStatement, len(old), MaxBytes)
	}
	var s statement
	if err := strictjson.Unmarshal(old, &s); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrStatement, err)
	}
	if s.Type != statementType || s.PredicateType != predicateType || s.Predicate.BuildDefinition.BuildType != BuildType {
		return nil, fmt.Errorf("%w: it is of another type", ErrStatement)
	}
	if again, err := s.encode(); err != nil || !bytes.Equal(again, old) {
		return nil, fmt.Errorf("%w: it is not spelled as it is written here: %w", ErrStatement, err)
	}
	s.about(m)
	return s.encode()
}

func (s *statement) encode() ([]byte, error) {
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encoding the provenance: %w", err)
	}
	return append(b, '\n'), nil
}
