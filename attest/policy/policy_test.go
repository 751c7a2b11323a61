package policy_test

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/chain"
	"github.com/toolshed-cloud/shed/attest/chain/chaintest"
	"github.com/toolshed-cloud/shed/attest/google"
	"github.com/toolshed-cloud/shed/attest/policy"
	"github.com/toolshed-cloud/shed/attest/release/logtest"
	"github.com/toolshed-cloud/shed/attest/snp"
	"github.com/toolshed-cloud/shed/attest/tdx"
)

// beside are the files that the default policies name.
func beside(t testing.TB) map[string][]byte {
	t.Helper()
	log := logtest.New(t, 2)
	var witnesses strings.Builder
	for _, w := range log.Policy().Witnesses {
		fmt.Fprintf(&witnesses, "%s dev\n", w.Key)
	}
	root := chaintest.Root(t, "root", chaintest.P256(t), nil)
	return map[string][]byte{
		"release.pub": pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: logtest.NewReleaseKey(t).DER()}),
		"log.vkey":    []byte(log.Policy().Log.String() + "\n"),
		"witnesses":   []byte(witnesses.String()),
		"ek-root.pem": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate.Raw}),
		"ak.list":     root.List(nil),
	}
}

func opening(files map[string][]byte) policy.Open {
	return func(name string) ([]byte, error) {
		if b, ok := files[name]; ok {
			return b, nil
		}
		return nil, fmt.Errorf("opening %s: %w", name, fs.ErrNotExist)
	}
}

func text(t testing.TB, name string) string {
	t.Helper()
	b, err := policy.Default(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestDefaults(t *testing.T) {
	if got := strings.Join(policy.Defaults(), " "); got != "local strict" {
		t.Errorf("defaults %s", got)
	}
	if _, err := policy.Default("../defaults/strict"); !errors.Is(err, attest.ErrPolicy) {
		t.Errorf("a path: %v", err)
	}
	strict, err := policy.Parse([]byte(text(t, "strict")), opening(beside(t)))
	if err != nil {
		t.Fatal(err)
	}
	v := strict.Verifier
	if v.Minimum != (attest.Tiers{Memory: attest.TierHardware, Identity: attest.TierProviderRooted, Storage: attest.TierProviderRooted}) ||
		strict.Log.NotRequired || strict.Log.Quorum != 2 || strict.Log.Witnesses[1].Label != "dev" || strict.Lifetime != 5*time.Minute ||
		len(v.SNP.Anchors) != 3 || *v.SNP.AllowVLEK || *v.SNP.Permitted != snp.PolicySMT || *v.SNP.Floors["Genoa"].Microcode != 84 ||
		v.SNP.Floors["Turin"].SNP != nil || v.TDX.Statuses[0] != tdx.UpToDate || v.TDX.XFAM.Allowed != 0x61ae7 ||
		v.TDX.Attributes.Required != tdx.AttributeSEPTVEDisable || *v.TDX.Grace != 72*time.Hour || v.Nitro.MaxAge != 5*time.Minute ||
		v.Azure != nil || len(v.AKAnchors) != 2 || v.AKAnchors[1].Tier != attest.TierProviderRooted ||
		!v.AKAnchors[0].Certificate.Equal(google.Roots()[0]) || v.AKRevocation != chain.RequiredWhereNamed {
		t.Errorf("%+v", strict)
	}
	local, err := policy.Parse([]byte(text(t, "local")), opening(beside(t)))
	if err != nil {
		t.Fatal(err)
	}
	if v := local.Verifier; len(v.TrustAnchors) != 1 || v.TrustAnchors[0].Tier != attest.TierSoftware || v.EKRevocation != chain.RequiredWhereNamed ||
		v.SNP != nil || v.TDX != nil || v.Nitro != nil || v.Azure != nil || v.AKAnchors != nil || local.Log.Quorum != 2 {
		t.Errorf("%+v", local)
	}
}

// keys are the lines of the strict default that hold a key, without which it
// says less.
func keys(text string) (lines []int) {
	for n, line := range strings.Split(text, "\n") {
		if key, _, ok := strings.Cut(strings.TrimSpace(line), ":"); ok && !strings.HasPrefix(key, "#") {
			lines = append(lines, n)
		}
	}
	return lines
}

// A key that is left out is an error that names it, whichever it is.
func TestUnsetIsAnError(t *testing.T) {
	files := beside(t)
	for _, name := range policy.Defaults() {
		lines := strings.Split(text(t, name), "\n")
		for _, n := range keys(text(t, name)) {
			line := lines[n]
			key, _, _ := strings.Cut(strings.Trim(line, " -"), ":")
			var without []string
			indent := len(line) - len(strings.TrimLeft(line, " "))
			dropping := false
			for i, other := range lines {
				deeper := len(other)-len(strings.TrimLeft(other, " ")) > indent
				dropping = i == n || dropping && deeper && other != ""
				if !dropping {
					without = append(without, other)
				}
			}
			if key == "Genoa" || strings.HasPrefix(strings.TrimSpace(line), "-") {
				continue
			}
			_, err := policy.Parse([]byte(strings.Join(without, "\n")), opening(files))
			if !errors.Is(err, attest.ErrPolicy) || !strings.Contains(fmt.Sprint(err), key+" is not set") {
				t.Errorf("%s without %s: %v", name, key, err)
			}
		}
	}
}

func TestRefusals(t *testing.T) {
	files := beside(t)
	for name, c := range map[string]struct{ old, new, want string }{
		"unknown":            {"lifetime: 5m", "lifetime: 5m\nextra: 1", "extra is unknown"},
		"unknown within":     {"  max_age: 5m", "  max_age: 5m\n  extra: 1", "nitrotpm.extra is unknown"},
		"twice":              {"lifetime: 5m", "lifetime: 5m\nlifetime: 5m", "lifetime"},
		"version":            {"version: 1", "version: 2", "line 6: version is \"2\", want 1"},
		"tier":               {"memory: hardware", "memory: best", "minimum.memory"},
		"no identity":        {"identity: provider-rooted", "identity: none", "minimum.identity is none"},
		"no key":             {"release_keys:\n  - release.pub", "release_keys: []", "release_keys has 0 entries"},
		"no file":            {"- release.pub", "- other.pub", "release_keys[0]"},
		"wrong file":         {"- release.pub", "- witnesses", "release_keys[0]"},
		"quorum too large":   {"quorum: 2", "quorum: 3", "3 of 2 witnesses"},
		"quorum of none":     {"quorum: 2", "quorum: 0", "0 of 2 witnesses"},
		"log by omission":    {"  key: log.vkey", "  key: \"\"", "log.key is empty"},
		"negative time":      {"grace: 72h", "grace: -1h", "grace is"},
		"too long":           {"grace: 72h", "grace: 9000h", "grace is"},
		"no unit":            {"lifetime: 5m", "lifetime: 5", "lifetime is \"5\""},
		"null":               {"nitrotpm:\n  roots: builtin\n  max_age: 5m", "nitrotpm: null", "nitrotpm is not a map of keys"},
		"a yes":              {"vlek: refused", "vlek: true", "snp.vlek is \"true\", want accepted, refused"},
		"debug":              {"[sept-ve-disable, pks]", "[sept-ve-disable, debug]", "tdx.attributes.allowed[1] is \"debug\""},
		"migration":          {"permitted: [smt]", "permitted: [migration-agent]", "snp.guest_policy.permitted[0]"},
		"floor too large":    {"microcode: 84", "microcode: 256", "snp.floors.Genoa.microcode"},
		"unknown line":       {"Genoa: {", "Rome: {", "snp.floors.Rome is unknown"},
		"no lines":           {"    Genoa: {bootloader: 10, tee: 0, snp: 23, microcode: 84}", "    {}", "snp.floors is empty"},
		"short measurement":  {"mrtd: any", "mrtd: [abcd]", "tdx.mrtd[0]"},
		"no measurement":     {"mrtd: any", "mrtd: []", "tdx.mrtd has 0 entries"},
		"other word":         {"mrtd: any", "mrtd: whatever", "tdx.mrtd is neither any nor a list"},
		"measured by any":    {"measured_boot: false", "measured_boot: true", "measured boot"},
		"required and not":   {"required: 0x3", "required: 0x10000000", "required and not allowed"},
		"revoked is no word": {"[UpToDate]", "[Revoked]", "tdx.statuses[0]"},
		"alias":              {"lifetime: 5m", "lifetime: *x", "lifetime"},
		"anchor":             {"lifetime: 5m", "lifetime: &x 5m", "lifetime is no plain value"},
		"two documents":      {"lifetime: 5m", "lifetime: 5m\n---\nversion: 1", "one yaml document"},
		"any paravisor":      {"azure: refused", "azure: {snp_measurements: any, tdx_mrtds: refused}", "azure.snp_measurements is not a list"},
		"no paravisor":       {"azure: refused", "azure: {snp_measurements: [], tdx_mrtds: refused}", "azure.snp_measurements has 0 entries"},
		"short paravisor":    {"azure: refused", "azure: {snp_measurements: refused, tdx_mrtds: [abcd]}", "azure.tdx_mrtds[0]"},
		"half a paravisor":   {"azure: refused", "azure: {snp_measurements: refused}", "azure.tdx_mrtds is not set"},
		"neither processor":  {"azure: refused", "azure: {snp_measurements: refused, tdx_mrtds: refused}", "azure: no paravisor is pinned"},
		"more of azure":      {"azure: refused", "azure: {snp_measurements: refused, tdx_mrtds: refused, vmpl: 1}", "azure.vmpl is unknown"},
		"ek's builtin":       {"ek: refused", "ek:\n  roots: builtin\n  revocation: not-published", "ek.roots is not a list"},
		"ak's other word":    {"ak:\n  roots: builtin", "ak:\n  roots: google", "ak.roots is not a list"},
		"ak's revocation":    {"  revocation: required-where-named\n\n# Revocation", "  revocation: none\n\n# Revocation", "ak.revocation"},
		"nothing to go by":   {"grace: 72h", "grace:", "grace is no plain value"},
	} {
		t.Run(name, func(t *testing.T) {
			before := text(t, "strict")
			after := strings.Replace(before, c.old, c.new, 1)
			if after == before {
				t.Fatal("nothing was replaced")
			}
			_, err := policy.Parse([]byte(after), opening(files))
			if !errors.Is(err, attest.ErrPolicy) || !strings.Contains(fmt.Sprint(err), c.want) {
				t.Errorf("%v, want %s", err, c.want)
			}
		})
	}
}

// Paravisors are pinned for each processor by itself; a cloud's root is one of
// a file too.
func TestParavisorsAndRootsOfAttestationKeys(t *testing.T) {
	measurement := strings.Repeat("ab", 48)
	changed := strings.NewReplacer(
		"azure: refused\n", "azure:\n  snp_measurements: ["+measurement+"]\n  tdx_mrtds: refused\n",
		"ak:\n  roots: builtin\n", "ak:\n  roots:\n    - certificate: ek-root.pem\n      tier: software\n",
	).Replace(text(t, "strict"))
	p, err := policy.Parse([]byte(changed), opening(beside(t)))
	if err != nil {
		t.Fatal(err)
	}
	if v := p.Verifier; len(v.Azure.SNP) != 1 || v.Azure.SNP[0][47] != 0xab || v.Azure.TDX != nil || len(v.AKAnchors) != 1 || v.AKAnchors[0].Tier != attest.TierSoftware || v.TrustAnchors != nil {
		t.Errorf("%+v", v)
	}
	changed = strings.Replace(changed, "["+measurement+"]\n  tdx_mrtds: refused", "refused\n  tdx_mrtds: ["+measurement+"]", 1)
	if p, err = policy.Parse([]byte(changed), opening(beside(t))); err != nil || len(p.Verifier.Azure.TDX) != 1 || p.Verifier.Azure.SNP != nil {
		t.Errorf("on tdx: %v", err)
	}
	from, to := strings.Index(changed, "\ntdx:\n"), strings.Index(changed, "\n# AWS NitroTPM")
	changed = changed[:from] + "\ntdx: refused\n" + changed[to:]
	if _, err = policy.Parse([]byte(changed), opening(beside(t))); !errors.Is(err, attest.ErrPolicy) || !strings.Contains(fmt.Sprint(err), "tdx is not accepted") {
		t.Errorf("on a processor that is refused: %v", err)
	}
}

// A file that a policy names is capped before anything reads it, whatever it
// would come to.
func TestFilesAreCapped(t *testing.T) {
	files := beside(t)
	for more, want := range []error{nil, attest.ErrPolicy} {
		padding := policy.MaxFile + more - len(beside(t)["witnesses"])
		large := map[string][]byte{"witnesses": append([]byte("#"+strings.Repeat("x", padding-2)+"\n"), files["witnesses"]...)}
		for name, b := range files {
			if name != "witnesses" {
				large[name] = b
			}
		}
		if _, err := policy.Parse([]byte(text(t, "strict")), opening(large)); !errors.Is(err, want) {
			t.Errorf("%d bytes: %v, want %v", len(large["witnesses"]), err, want)
		}
	}
}

// A product line from Turin on has one part more, and its floor is asked for.
func TestFloorOfTurin(t *testing.T) {
	for floor, want := range map[string]error{
		"{fmc: 2, bootloader: 4, tee: 0, snp: 24, microcode: 219}": nil,
		"{bootloader: 4, tee: 0, snp: 24, microcode: 219}":         attest.ErrPolicy,
	} {
		after := strings.Replace(text(t, "strict"), "    Genoa: {", "    Turin: "+floor+"\n    Genoa: {", 1)
		p, err := policy.Parse([]byte(after), opening(beside(t)))
		if !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", floor, err, want)
		}
		if want == nil && (err != nil || p.Verifier.SNP.Floors["Turin"].FMC == nil || *p.Verifier.SNP.Floors["Turin"].FMC != 2) {
			t.Errorf("%s: %v", floor, err)
		}
	}
}

// Nobody vouches for anything: that is no policy.
func TestNobodyVouches(t *testing.T) {
	all := text(t, "local")
	at := strings.Index(all, "ek:\n")
	none := all[:at] + "ek: refused\n" + all[strings.Index(all, "revocation_lists"):]
	if _, err := policy.Parse([]byte(none), opening(beside(t))); !errors.Is(err, attest.ErrPolicy) {
		t.Error(err)
	}
}

// What is in files can be in the policy itself.
func TestInline(t *testing.T) {
	files := beside(t)
	root, err := x509.ParseCertificate(decode(t, files["ek-root.pem"]))
	if err != nil {
		t.Fatal(err)
	}
	indent := func(b []byte) string { return "|\n        " + strings.ReplaceAll(string(b), "\n", "\n        ") }
	key, witness, _ := strings.Cut(string(files["witnesses"]), "\n")
	inline := strings.NewReplacer(
		"- release.pub", "- "+indent(files["release.pub"]),
		"certificate: ek-root.pem", "certificate: "+indent(files["ek-root.pem"]),
		"key: log.vkey", "key: "+strings.TrimSpace(string(files["log.vkey"])),
		"witnesses: witnesses", fmt.Sprintf("witnesses:\n    - {key: %q, label: \"\"}\n    - key: %s\n      label: dev",
			strings.Fields(key)[0], strings.Fields(witness)[0]),
		"revocation_lists: []", "revocation_lists: [ak.list]",
	).Replace(text(t, "local"))
	p, err := policy.Parse([]byte(inline), opening(map[string][]byte{"ak.list": files["ak.list"]}))
	if err != nil {
		t.Fatal(err)
	}
	if !p.Verifier.TrustAnchors[0].Certificate.Equal(root) || p.Log.Witnesses[0].Label != "" || p.Log.Witnesses[1].Label != "dev" || len(p.Verifier.RevocationLists) != 1 {
		t.Errorf("%+v", p)
	}
}

func decode(t *testing.T, text []byte) []byte {
	t.Helper()
	block, _ := pem.Decode(text)
	if block == nil {
		t.Fatal("no PEM")
	}
	return block.Bytes
}

// uncommented keeps a seed small.
func uncommented(text string) string {
	var kept strings.Builder
	for line := range strings.Lines(text) {
		if bare := strings.TrimSpace(line); bare != "" && !strings.HasPrefix(bare, "#") {
			kept.WriteString(line)
		}
	}
	return kept.String()
}

func FuzzParse(f *testing.F) {
	files := beside(f)
	for _, name := range policy.Defaults() {
		f.Add([]byte(uncommented(text(f, name))))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := policy.Parse(b, opening(files))
		if err != nil {
			if !errors.Is(err, attest.ErrPolicy) {
				t.Errorf("%v", err)
			}
			return
		}
		if p.Verifier.CheckButReleases() != nil || p.Log.CheckButFloor() != nil || len(p.ReleaseKeys) == 0 || p.Lifetime <= 0 {
			t.Errorf("accepted without being complete: %+v", p)
		}
	})
}

// The manual has every key of the defaults.
func TestKeysAreDocumented(t *testing.T) {
	manual, err := os.ReadFile("../../docs/policy.md")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(uncommented(text(t, "strict"))) {
		key, _, ok := strings.Cut(strings.Trim(line, " -"), ":")
		told := strings.Contains(string(manual), key+"`") || strings.Contains(string(manual), key+".")
		if ok && key != "Genoa" && !strings.HasPrefix(key, "rtmr") && !told {
			t.Errorf("docs/policy.md has no %s", key)
		}
	}
}
