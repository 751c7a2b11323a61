// Package sbom lists what an image is made of, as CycloneDX.
//
// Invariants: the same image gives the same bytes, so there is no serial number
// and no time; every part that went in has its SHA-256; what is listed was read
// from the parts, not from a list of what should be in them.
package sbom

import (
	"bytes"
	"cmp"
	"debug/buildinfo"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"

	cdx "github.com/CycloneDX/cyclonedx-go"
	"github.com/package-url/packageurl-go"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/imagebuild/lock"
)

// Image is what there is to list.
type Image struct {
	Version, Architecture string
	// Packages are those that something was taken from.
	Packages []lock.Package
	// Modules are the kernel's that the image has.
	Modules []File
	// Programs are Go's, and others that say nothing of what they are made of.
	Programs []Program
	// Others are all further inputs.
	Others []File
}

// File is a part, at its path in the image or under its name as an input.
type File struct {
	Path   string
	SHA256 attest.Digest
}

// Program is one that the image runs.
type Program struct {
	File
	Data []byte
}

// Encode writes the list as CycloneDX 1.6 in JSON.
func (i Image) Encode() ([]byte, error) {
	bom := cdx.NewBOM()
	root := cdx.Component{
		BOMRef: "image", Type: cdx.ComponentTypeOS, Name: "shed", Version: i.Version,
		Properties: &[]cdx.Property{{Name: "shed:architecture", Value: i.Architecture}},
	}
	bom.Metadata = &cdx.Metadata{Component: &root}
	components := []cdx.Component{}
	for _, p := range i.Packages {
		components = append(components, i.ofPackage(p))
	}
	for _, p := range i.Programs {
		components = append(components, p.component())
	}
	for _, f := range i.Others {
		components = append(components, f.component("input:"+f.Path))
	}
	slices.SortFunc(components, func(a, b cdx.Component) int { return cmp.Compare(a.BOMRef, b.BOMRef) })
	bom.Components = &components
	var refs []string
	for _, c := range components {
		refs = append(refs, c.BOMRef)
	}
	bom.Dependencies = &[]cdx.Dependency{{Ref: root.BOMRef, Dependencies: &refs}}
	var out bytes.Buffer
	e := cdx.NewBOMEncoder(&out, cdx.BOMFileFormatJSON)
	if err := e.SetPretty(true).SetEscapeHTML(false).EncodeVersion(bom, cdx.SpecVersion1_6); err != nil {
		return nil, fmt.Errorf("encoding the SBOM: %w", err)
	}
	return out.Bytes(), nil
}

func hashes(d attest.Digest) *[]cdx.Hash {
	return &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: d.String()}}
}

func (f File) component(ref string) cdx.Component {
	return cdx.Component{BOMRef: ref, Type: cdx.ComponentTypeFile, Name: f.Path, Hashes: hashes(f.SHA256)}
}

// PackageURL names one of Debian's packages.
func PackageURL(p lock.Package) string {
	return packageurl.NewPackageURL(packageurl.TypeDebian, "debian", p.Name, p.Version, packageurl.QualifiersFromMap(map[string]string{
		"arch": p.Architecture, "distro": p.Suite,
	}), "").ToString()
}

func (i Image) ofPackage(p lock.Package) cdx.Component {
	url := PackageURL(p)
	c := cdx.Component{
		BOMRef: url, Type: cdx.ComponentTypeLibrary, Name: p.Name, Version: p.Version, PackageURL: url, Hashes: hashes(p.SHA256),
	}
	inside := []cdx.Component{}
	for _, f := range p.Files {
		inside = append(inside, File{f.Path, f.SHA256}.component(url+"#"+f.Path))
	}
	switch p.Use {
	case lock.Kernel:
		c.Type = cdx.ComponentTypeOS
		for _, m := range i.Modules {
			module := m.component(url + "#" + m.Path)
			module.Type = cdx.ComponentTypeDeviceDriver
			inside = append(inside, module)
		}
	case lock.Firmware:
		c.Type = cdx.ComponentTypeFirmware
	}
	c.Components = &inside
	return c
}

// component is a program with the modules that Go says it is built from.
func (p Program) component() cdx.Component {
	c := p.File.component("program:" + p.Path)
	c.Type = cdx.ComponentTypeApplication
	info, err := buildinfo.Read(bytes.NewReader(p.Data))
	if err != nil {
		// It is none of Go's, and has no list.
		return c
	}
	c.PackageURL = goURL(info.Main.Path, "")
	inside := []cdx.Component{}
	for _, m := range info.Deps {
		inside = append(inside, goModule(c.BOMRef, m))
	}
	standard := goURL("stdlib", strings.TrimPrefix(info.GoVersion, "go"))
	inside = append(inside, cdx.Component{
		BOMRef: c.BOMRef + "#" + standard, Type: cdx.ComponentTypeLibrary, Name: "stdlib",
		Version: strings.TrimPrefix(info.GoVersion, "go"), PackageURL: standard,
	})
	slices.SortFunc(inside, func(a, b cdx.Component) int { return cmp.Compare(a.BOMRef, b.BOMRef) })
	c.Components = &inside
	return c
}

// goModule is the module that was compiled, where it replaces another that one.
func goModule(program string, m *debug.Module) cdx.Component {
	if m.Replace != nil {
		m = m.Replace
	}
	url := goURL(m.Path, m.Version)
	c := cdx.Component{BOMRef: program + "#" + url, Type: cdx.ComponentTypeLibrary, Name: m.Path, Version: m.Version, PackageURL: url}
	if m.Sum != "" {
		// It is a hash of file names and hashes, as go.sum has it, and no hash
		// of a file.
		c.Properties = &[]cdx.Property{{Name: "shed:go.sum", Value: m.Sum}}
	}
	return c
}

func goURL(path, version string) string {
	namespace, name := "", path
	if n := strings.LastIndexByte(path, '/'); n >= 0 {
		namespace, name = path[:n], path[n+1:]
	}
	return packageurl.NewPackageURL(packageurl.TypeGolang, namespace, name, version, nil, "").ToString()
}
