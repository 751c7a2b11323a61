package policy

import (
	"encoding/hex"
	"strconv"
	"strings"

	"github.com/toolshed-cloud/shed/attest/snp"
	"github.com/toolshed-cloud/shed/attest/verifier"
)

// maxMeasurements caps the accepted values of one register.
const maxMeasurements = 256

// anyValue is the word for whatever is there.
const anyValue = "any"

var snpDemands = []named[snp.GuestPolicy]{
	{"single-socket", snp.PolicySingleSocket}, {"aes-256-xts", snp.PolicyAES256XTS}, {"rapl-disabled", snp.PolicyRAPLDisabled},
	{"ciphertext-hiding", snp.PolicyHidesCiphertext}, {"no-page-swap", snp.PolicyNoPageSwap},
}

var snpPermits = []named[snp.GuestPolicy]{{"smt", snp.PolicySMT}, {"cxl", snp.PolicyCXL}}

var snpPlatform = []named[snp.PlatformInfo]{
	{"smt", snp.PlatformSMT}, {"tsme", snp.PlatformTSME}, {"ecc", snp.PlatformECC}, {"rapl-disabled", snp.PlatformRAPLDisabled},
	{"ciphertext-hiding", snp.PlatformHidesCiphertext}, {"alias-check", snp.PlatformAliasCheckOK}, {"tio", snp.PlatformTIO},
}

var snpLayouts = []named[snp.Layout]{{"milan", snp.LayoutMilan}, {"turin", snp.LayoutTurin}}

func (v value) snp() *verifier.SNPPolicy {
	if v.is(refused) {
		return nil
	}
	o := v.object()
	guest := o.get("guest_policy").object()
	p := &verifier.SNPPolicy{
		Anchors:         o.get("roots").snpAnchors(),
		Revocation:      o.get("revocation").treatment(),
		MinimumFirmware: o.get("firmware").snpFirmware(),
		Required:        new(bits(guest.get("required"), snpDemands)),
		Permitted:       new(bits(guest.get("permitted"), snpPermits)),
		Platform:        new(bits(o.get("platform"), snpPlatform)),
		AllowVLEK:       o.get("vlek").accepted(),
		AllowMaskedChip: o.get("masked_chip").accepted(),
		MeasuredBoot:    o.get("measured_boot").yes(),
	}
	guest.end()
	p.Floors = o.get("floors").snpFloors(p.Anchors)
	p.AcceptAnyMeasurement, p.Measurements = o.get("measurements").measurements()
	o.end()
	return p
}

// snpAnchors are AMD's, or others' with what AMD's program knows of its own:
// the product line, the layout of its versions, and its authorities.
func (v value) snpAnchors() (all []snp.Anchor) {
	if v.is(builtin) {
		return snp.AMD()
	}
	for _, entry := range v.list(1, maxRoots) {
		o := entry.object()
		certificates := o.get("certificates").certificates()
		a := snp.Anchor{Product: o.get("product").text(), Layout: word(o.get("layout"), snpLayouts)}
		o.end()
		if v.f.err != nil {
			return nil
		}
		a.Root, a.Authorities = certificates[0], certificates[1:]
		all = append(all, a)
	}
	return all
}

func (v value) snpFloors(anchors []snp.Anchor) map[string]verifier.SNPFloor {
	layouts, lines := map[string]snp.Layout{}, []string{}
	for _, a := range anchors {
		layouts[a.Product], lines = a.Layout, append(lines, a.Product)
	}
	floors := map[string]verifier.SNPFloor{}
	if v.f.err == nil {
		v.object().each(lines, func(line string, floor value) { floors[line] = floor.snpFloor(layouts[line]) })
	}
	return floors
}

func (v value) snpFloor(layout snp.Layout) (f verifier.SNPFloor) {
	o := v.object()
	svn := func(name string) *uint8 { return new(uint8(o.get(name).number(255))) }
	f.Bootloader, f.TEE, f.SNP, f.Microcode = svn("bootloader"), svn("tee"), svn("snp"), svn("microcode")
	if layout == snp.LayoutTurin {
		f.FMC = svn("fmc")
	}
	o.end()
	return f
}

// snpFirmware is a version such as 1.55.
func (v value) snpFirmware() *verifier.SNPFirmware {
	major, minor, _ := strings.Cut(v.text(), ".")
	a, errMajor := strconv.ParseUint(major, 10, 8)
	b, errMinor := strconv.ParseUint(minor, 10, 8)
	if errMajor != nil || errMinor != nil {
		v.failUnlessUnset("is no version such as 1.55")
	}
	return &verifier.SNPFirmware{Major: uint8(a), Minor: uint8(b)}
}

// measurements are any, or a list of SHA-384 digests in hex.
func (v value) measurements() (any bool, all [][48]byte) {
	if v.is(anyValue) {
		return true, nil
	}
	if !v.isList() {
		v.failUnlessUnset("is neither any nor a list of measurements")
		return false, nil
	}
	return false, v.digests()
}

// digests are a list of SHA-384 digests in hex.
func (v value) digests() (all [][48]byte) {
	for _, entry := range v.list(1, maxMeasurements) {
		text := entry.text()
		b, err := hex.DecodeString(text)
		if err != nil || len(b) != 48 {
			entry.fail("is %.16q, want 96 hex digits", text)
			return nil
		}
		all = append(all, [48]byte(b))
	}
	return all
}
