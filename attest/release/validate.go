package release

import (
	"encoding/hex"
	"slices"
	"strconv"
	"strings"

	"github.com/toolshed-cloud/shed/attest"
)

// The caps on a manifest's lists and names.
const (
	maxInputs    = 1024
	maxShapes    = 64
	maxNameBytes = 255
	lastRegister = 23
)

// always are the registers that every boot pins.
var always = [...]string{"4", "9", "11"}

// firmwareRegisters are those that the firmware and its machine decide on.
var firmwareRegisters = [...]string{"0", "1"}

// validate fails closed: a field left unset is an error.
func (m *Manifest) validate() error {
	if err := m.validSchema(); err != nil {
		return err
	}
	if err := ValidVersion(m.Version); err != nil {
		return err
	}
	if m.Epoch == 0 {
		return unacceptable("epoch is unset, want 1 or more")
	}
	if m.Architecture != "amd64" && m.Architecture != "arm64" {
		return unacceptable("architecture %q is neither amd64 nor arm64", m.Architecture)
	}
	if m.StubVersion < 1 {
		return unacceptable("stub_version is unset")
	}
	if err := validFile("disk", m.Disk); err != nil {
		return err
	}
	if err := validFile("uki", m.UKI); err != nil {
		return err
	}
	boots, err := m.SecureBootChange.validate(m.Boots)
	if err != nil {
		return err
	}
	if err := validBoots(boots); err != nil {
		return err
	}
	if err := m.Firmware.validate(m.Boots); err != nil {
		return err
	}
	if err := m.Payload.validate(); err != nil {
		return err
	}
	if err := m.Documents.validate(); err != nil {
		return err
	}
	return validInputs(m.Inputs)
}

// validSchema wants the schema that what the manifest has came with last.
func (m *Manifest) validSchema() error {
	switch {
	case m.Schema < SchemaVersion || m.Schema > SchemaSecureBootChange:
		return unacceptable("schema is %d, want %d to %d", m.Schema, SchemaVersion, SchemaSecureBootChange)
	case (m.Schema == SchemaSecureBootChange) != (m.SecureBootChange != nil):
		return unacceptable("schema is %d: secure_boot_change is what schema %d adds", m.Schema, SchemaSecureBootChange)
	case m.Schema == SchemaSecureBootChange:
	case (m.Schema == SchemaDocuments) != (m.Documents != nil):
		return unacceptable("schema is %d: documents is what schema %d adds", m.Schema, SchemaDocuments)
	case m.Schema == SchemaDocuments:
	case (m.Schema == SchemaPayload) != (m.Payload != nil):
		return unacceptable("schema is %d: payload is what schema %d adds", m.Schema, SchemaPayload)
	case m.Schema == SchemaPayload:
	case (m.Schema >= SchemaFirmware) != (m.Firmware != nil):
		return unacceptable("schema is %d: firmware is what schema %d adds", m.Schema, SchemaFirmware)
	case (m.Schema == SchemaSecureBoot) != m.SecureBootOnly():
		return unacceptable("schema is %d: firmware.secure_boot is what schema %d adds", m.Schema, SchemaSecureBoot)
	}
	return nil
}

func (d *Documents) validate() error {
	if d == nil {
		return nil
	}
	if err := validFile("documents.sbom", d.SBOM); err != nil {
		return err
	}
	if err := validFile("documents.provenance", d.Provenance); err != nil {
		return err
	}
	if d.SBOM.Name == d.Provenance.Name {
		return unacceptable("documents.provenance.name is that of the sbom")
	}
	return nil
}

// verityBlock is the block that a root is hashed by.
const verityBlock = 4096

func (p *Payload) validate() error {
	if p == nil {
		return nil
	}
	if err := p.Validate(); err != nil {
		return unacceptable("payload: %w", err)
	}
	r := p.Root
	if r == nil {
		return nil
	}
	if err := validFile("payload.root.file", r.File); err != nil {
		return err
	}
	switch {
	case r.RootHash.IsZero():
		return unacceptable("payload.root.root_hash is unset")
	case r.DataBytes <= 0 || r.DataBytes%verityBlock != 0 || r.DataBytes >= r.File.Bytes:
		return unacceptable("payload.root.data_bytes is %d, want blocks of %d and fewer than the file's %d bytes", r.DataBytes, verityBlock, r.File.Bytes)
	}
	return nil
}

// validate wants both registers of each shape, and no boot that fixes them too.
func (f *Firmware) validate(boots []Boot) error {
	if f == nil {
		return nil
	}
	if err := validFile("firmware.code", f.Code); err != nil {
		return err
	}
	if err := validFile("firmware.variables", f.Variables); err != nil {
		return err
	}
	if len(f.Shapes) == 0 || len(f.Shapes) > maxShapes {
		return unacceptable("firmware.shapes has %d entries, want 1 to %d", len(f.Shapes), maxShapes)
	}
	for i, s := range f.Shapes {
		if err := s.validate(i); err != nil {
			return err
		}
		if i > 0 && f.Shapes[i-1].Compare(s.Shape) >= 0 {
			return unacceptable("firmware.shapes[%d] is out of order or repeated", i)
		}
	}
	if f.SecureBoot && !slices.ContainsFunc(boots, fixesSecureBoot) {
		return unacceptable("firmware.secure_boot: no boot with Secure Boot fixes register 7")
	}
	for i, boot := range boots {
		for _, register := range firmwareRegisters {
			if _, twice := boot.SHA256[register]; twice {
				return unacceptable("boots[%d].sha256 names register %s, which firmware fixes", i, register)
			}
		}
	}
	return nil
}

func fixesSecureBoot(b Boot) bool { return b.SecureBoot && b.SHA256["7"] != "" }

func (s Shape) validate(i int) error {
	if err := s.Check(); err != nil {
		return unacceptable("firmware.shapes[%d]: %w", i, err)
	}
	if len(s.SHA256) != len(firmwareRegisters) || len(s.SHA384) != len(firmwareRegisters) {
		return unacceptable("firmware.shapes[%d] names other registers than 0 and 1", i)
	}
	for _, register := range firmwareRegisters {
		if !isHex(s.SHA256[register], 32) {
			return unacceptable("firmware.shapes[%d].sha256 register %s is not 64 lowercase hex digits", i, register)
		}
		if !isHex(s.SHA384[register], 48) {
			return unacceptable("firmware.shapes[%d].sha384 register %s is not 96 lowercase hex digits", i, register)
		}
	}
	return nil
}

func validFile(field string, f File) error {
	switch {
	case !isName(f.Name) || strings.Contains(f.Name, "/") || f.Name == "." || f.Name == "..":
		return unacceptable("%s.name %q is not a plain file name", field, f.Name)
	case f.SHA256.IsZero():
		return unacceptable("%s.sha256 is unset", field)
	case f.Bytes <= 0:
		return unacceptable("%s.bytes is %d, want more than 0", field, f.Bytes)
	}
	return nil
}

func validInputs(inputs []Input) error {
	if len(inputs) == 0 || len(inputs) > maxInputs {
		return unacceptable("inputs has %d entries, want 1 to %d", len(inputs), maxInputs)
	}
	for i, in := range inputs {
		switch {
		case !isName(in.Name):
			return unacceptable("inputs[%d].name %q is not printable ASCII of 1 to %d bytes", i, in.Name, maxNameBytes)
		case i > 0 && inputs[i-1].Name >= in.Name:
			return unacceptable("inputs[%d].name %q is out of order or repeated", i, in.Name)
		case in.SHA256.IsZero():
			return unacceptable("inputs[%d].sha256 is unset", i)
		case in.Bytes < 0:
			return unacceptable("inputs[%d].bytes is %d", i, in.Bytes)
		}
	}
	return nil
}

// validBoots wants one entry for each firmware mode at most, off before on.
func validBoots(boots []Boot) error {
	if len(boots) == 0 || len(boots) > 2 {
		return unacceptable("boots has %d entries, want 1 or 2", len(boots))
	}
	if len(boots) == 2 && (boots[0].SecureBoot || !boots[1].SecureBoot) {
		return unacceptable("boots must be Secure Boot off, then on")
	}
	for i, b := range boots {
		if err := b.validate(i); err != nil {
			return err
		}
	}
	return nil
}

func (b Boot) validate(i int) error {
	if len(b.SHA256) != len(b.SHA384) {
		return unacceptable("boots[%d] names %d registers in sha256 and %d in sha384", i, len(b.SHA256), len(b.SHA384))
	}
	for _, register := range always {
		if _, ok := b.SHA256[register]; !ok {
			return unacceptable("boots[%d].sha256 lacks register %s", i, register)
		}
	}
	for register, value := range b.SHA256 {
		if !isRegister(register) {
			return unacceptable("boots[%d].sha256 names register %q, want 0 to %d", i, register, lastRegister)
		}
		if !isHex(value, 32) {
			return unacceptable("boots[%d].sha256 register %s is not 64 lowercase hex digits", i, register)
		}
		if !isHex(b.SHA384[register], 48) {
			return unacceptable("boots[%d].sha384 register %s is not 96 lowercase hex digits", i, register)
		}
	}
	return b.validEvents(i)
}

// maxEvents is far above what the firmware logs of one register for a boot of
// ours.
const maxEvents = 64

// validEvents wants events that make the very value that they explain.
func (b Boot) validEvents(i int) error {
	for register := range b.Events {
		digests, err := b.EventDigests(register)
		if err != nil || len(digests) == 0 {
			return unacceptable("boots[%d].events of register %s: 1 to %d digests of 64 lowercase hex digits", i, register, maxEvents)
		}
		var made attest.Digest
		for _, d := range digests {
			made = attest.Extend(made, d)
		}
		if made.String() != b.SHA256[register] {
			return unacceptable("boots[%d].events of register %s do not make its value", i, register)
		}
	}
	return nil
}

// EventDigests are the events of a register, none where the release does not
// name them. The error is that of a digest that is none.
func (b Boot) EventDigests(register string) ([]attest.Digest, error) {
	if len(b.Events[register]) > maxEvents {
		return nil, unacceptable("register %s has %d events, at most %d", register, len(b.Events[register]), maxEvents)
	}
	var digests []attest.Digest
	for _, text := range b.Events[register] {
		var d attest.Digest
		if !isHex(text, len(d)) {
			return nil, unacceptable("register %s: event %q is no digest", register, text)
		}
		if err := d.UnmarshalText([]byte(text)); err != nil {
			return nil, err
		}
		digests = append(digests, d)
	}
	return digests, nil
}

// ValidVersion wants a semantic version (semver.org, 2.0.0) without a leading
// v, of at most 64 bytes. The error matches attest.ErrRelease.
func ValidVersion(version string) error {
	if len(version) > 64 {
		return unacceptable("version has %d characters, at most 64", len(version))
	}
	rest, build, hasBuild := strings.Cut(version, "+")
	core, pre, hasPre := strings.Cut(rest, "-")
	numbers := strings.Split(core, ".")
	ok := len(numbers) == 3
	for _, n := range numbers {
		ok = ok && isNumber(n)
	}
	ok = ok && (!hasBuild || areIdentifiers(build, false)) && (!hasPre || areIdentifiers(pre, true))
	if !ok {
		return unacceptable("version %q is not a semantic version such as 1.2.3", version)
	}
	return nil
}

// areIdentifiers checks dot-separated identifiers; those made of digits alone
// have no leading zero where numeric is set.
func areIdentifiers(s string, numeric bool) bool {
	for id := range strings.SplitSeq(s, ".") {
		if id == "" || strings.ContainsFunc(id, func(r rune) bool { return !isAlphanumeric(r) && r != '-' }) {
			return false
		}
		if numeric && isDigits(id) && !isNumber(id) {
			return false
		}
	}
	return true
}

func isAlphanumeric(r rune) bool {
	return r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
}

func isDigits(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return r < '0' || r > '9' })
}

// isNumber accepts decimal digits without a leading zero.
func isNumber(s string) bool {
	return isDigits(s) && (s == "0" || s[0] != '0')
}

func isRegister(s string) bool {
	n, err := strconv.Atoi(s)
	return err == nil && isNumber(s) && n <= lastRegister
}

func isHex(s string, bytes int) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == bytes && hex.EncodeToString(b) == s
}

// isName accepts printable ASCII, so that a name cannot disguise itself on a
// terminal.
func isName(s string) bool {
	return s != "" && len(s) <= maxNameBytes &&
		!strings.ContainsFunc(s, func(r rune) bool { return r < 0x20 || r > 0x7e })
}
