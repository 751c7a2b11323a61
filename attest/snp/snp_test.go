package snp_test

import (
	"crypto/x509"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/chain"
	"github.com/toolshed-cloud/shed/attest/chain/chaintest"
	"github.com/toolshed-cloud/shed/attest/snp"
	"github.com/toolshed-cloud/shed/attest/snp/snptest"
)

func parse(tb testing.TB, raw []byte) *snp.Report {
	tb.Helper()
	r, err := snp.Parse(raw)
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

func endorse(tb testing.TB, v *snptest.Vendor, k *snptest.Key) *snp.Endorsement {
	tb.Helper()
	e, err := snp.VerifyEndorsement(k.Certificate, []*x509.Certificate{k.Authority}, []snp.Anchor{v.Anchor()}, v.Revocations(), snptest.Now)
	if err != nil {
		tb.Fatal(err)
	}
	return e
}

func TestParse(t *testing.T) {
	k := snptest.Draw(t, "Milan").VCEK(nil)
	set := func(at int, v byte) func([]byte) { return func(b []byte) { b[at] = v } }
	for name, c := range map[string]struct {
		version uint32
		edit    func([]byte)
		good    bool
	}{
		"version 2": {2, nil, true}, "version 3": {3, nil, true}, "version 4": {4, nil, true}, "version 5": {5, nil, true},
		"version 1": {1, nil, false}, "version 6": {6, nil, false},
		"vectors in 5":             {5, set(0x200, 7), true},
		"vectors in 4":             {4, set(0x200, 7), true},
		"vectors in 3":             {3, set(0x200, 7), false},
		"cpuid in 2":               {2, set(0x188, 0x19), false},
		"behind the cpuid":         {3, set(0x18b, 1), false},
		"reserved after flags":     {3, set(0x4c, 1), false},
		"reserved after current":   {3, set(0x1eb, 1), false},
		"reserved after committed": {3, set(0x1ef, 1), false},
		"reserved before the end":  {5, set(0x29f, 1), false},
		"behind the signature":     {5, set(0x330, 1), false},
		"last byte":                {5, set(snp.ReportSize-1, 1), false},
		"flags":                    {3, set(0x48, 0x20), false},
		"flags of another byte":    {3, set(0x49, 0x04), false},
		"signing key 2":            {3, set(0x48, 2<<2), false},
		"unsigned":                 {3, set(0x48, 7<<2), true},
		"signature algorithm":      {3, set(0x34, 2), false},
		"policy bit 17":            {3, set(0xa, 0), false},
		"policy unknown":           {3, set(0xf, 1), false},
		"platform unknown":         {3, set(0x47, 0x80), true},
	} {
		t.Run(name, func(t *testing.T) {
			raw := k.Report(func(r *snp.Report) {
				r.Version = c.version
			})
			if c.edit != nil {
				c.edit(raw)
			}
			_, err := snp.Parse(raw)
			if c.good != (err == nil) || (!c.good && !errors.Is(err, attest.ErrMalformed)) {
				t.Errorf("good is %t, error %v", c.good, err)
			}
		})
	}
	for _, size := range []int{0, snp.ReportSize - 1, snp.ReportSize + 1} {
		if _, err := snp.Parse(make([]byte, size)); !errors.Is(err, attest.ErrMalformed) {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
}

// Every field comes back from where the specification has it.
func TestFields(t *testing.T) {
	k := snptest.Draw(t, "Turin").VCEK(nil)
	var want snp.Report
	raw := k.Report(func(r *snp.Report) {
		r.Version, r.GuestSVN, r.VMPL = 5, 9, 2
		r.FamilyID, r.ImageID, r.ReportData, r.HostData = [16]byte{1}, [16]byte{2}, [64]byte{3}, [32]byte{4}
		r.IDKeyDigest, r.AuthorKeyDigest, r.AuthorKey = [48]byte{5}, [48]byte{6}, true
		r.LaunchMitigations, r.CurrentMitigations = 7, 8
		want = *r
	})
	got := *parse(t, raw)
	if *got.CPUID != *want.CPUID {
		t.Errorf("cpuid %v, want %v", got.CPUID, want.CPUID)
	}
	if string(got.Raw()) != string(raw) {
		t.Error("raw bytes differ")
	}
	if string(snptest.Encode(got)[:0x2a0]) != string(raw[:0x2a0]) {
		t.Error("a field does not come back")
	}
}

func TestCheck(t *testing.T) {
	for _, product := range []string{"Milan", "Genoa", "Turin"} {
		v := snptest.Draw(t, product)
		vcek, vlek, foreign := v.VCEK(nil), v.VLEK(nil), v.VCEK(nil)
		ofVCEK, ofVLEK := endorse(t, v, vcek), endorse(t, v, vlek)
		for name, c := range map[string]struct {
			by     *snp.Endorsement
			report []byte
			want   error
		}{
			"vcek":                {ofVCEK, vcek.Report(nil), nil},
			"vlek":                {ofVLEK, vlek.Report(nil), nil},
			"vlek, chip masked":   {ofVLEK, vlek.Report(func(r *snp.Report) { r.ChipID = [64]byte{} }), nil},
			"vlek as vcek":        {ofVCEK, vlek.Report(nil), attest.ErrIdentity},
			"vcek as vlek":        {ofVLEK, vcek.Report(nil), attest.ErrIdentity},
			"vlek said vcek":      {ofVLEK, vlek.Report(func(r *snp.Report) { r.Signer = snp.VCEK }), attest.ErrIdentity},
			"vcek said vlek":      {ofVCEK, vcek.Report(func(r *snp.Report) { r.Signer = snp.VLEK }), attest.ErrIdentity},
			"unsigned":            {ofVCEK, vcek.Report(func(r *snp.Report) { r.Signer = snp.Unsigned }), attest.ErrIdentity},
			"another key":         {ofVCEK, foreign.Report(nil), attest.ErrSignature},
			"another chip":        {ofVCEK, vcek.Report(func(r *snp.Report) { r.ChipID[0] ^= 1 }), attest.ErrIdentity},
			"chip masked":         {ofVCEK, vcek.Report(func(r *snp.Report) { r.ChipID = [64]byte{} }), attest.ErrIdentity},
			"tcb higher":          {ofVCEK, vcek.Report(func(r *snp.Report) { r.ReportedTCB += 1 << 56 }), attest.ErrIdentity},
			"tcb lower":           {ofVCEK, vcek.Report(func(r *snp.Report) { r.ReportedTCB-- }), attest.ErrIdentity},
			"tcb reserved":        {ofVCEK, vcek.Report(func(r *snp.Report) { r.ReportedTCB |= 1 << 40 }), attest.ErrMalformed},
			"flipped":             {ofVCEK, flip(vcek.Report(nil), 0x90), attest.ErrSignature},
			"r above 384 bits":    {ofVCEK, flip(vcek.Report(nil), 0x2a0+71), attest.ErrSignature},
			"unknown processor":   {ofVCEK, vcek.Report(func(r *snp.Report) { *r.CPUID = snp.CPUID{Family: 0x19, Model: 0xa0} }), nil},
			"without a processor": {ofVCEK, vcek.Report(func(r *snp.Report) { r.Version = 2 }), nil},
		} {
			t.Run(product+"/"+name, func(t *testing.T) {
				if err := c.by.Check(parse(t, c.report)); !errors.Is(err, c.want) {
					t.Errorf("%v, want %v", err, c.want)
				}
			})
		}
		masked := parse(t, vcek.Report(func(r *snp.Report) { r.ChipID = [64]byte{} }))
		if err := ofVCEK.CheckWhateverTheChip(masked); err != nil || !masked.ChipMasked() {
			t.Errorf("masked chip: %v", err)
		}
		if err := ofVCEK.CheckWhateverTheChip(parse(t, vcek.Report(func(r *snp.Report) { r.ChipID[1] ^= 1 }))); !errors.Is(err, attest.ErrIdentity) {
			t.Errorf("another chip: %v", err)
		}
	}
}

func flip(b []byte, at int) []byte {
	b[at] ^= 1
	return b
}

func TestTurinsChipHasEightBytes(t *testing.T) {
	v := snptest.Draw(t, "Turin")
	k := v.VCEK(nil)
	longer := parse(t, k.Report(func(r *snp.Report) { r.ChipID[8] = 1 }))
	if err := endorse(t, v, k).Check(longer); !errors.Is(err, attest.ErrIdentity) {
		t.Errorf("%v, want identity", err)
	}
}

func TestVerifyEndorsement(t *testing.T) {
	v, other, turin := snptest.Draw(t, "Milan"), snptest.Draw(t, "Milan"), snptest.Draw(t, "Turin")
	replaced := func(below []int, value []byte) *snptest.Key {
		return v.VCEK(func(c *x509.Certificate) { snptest.Replace(c, below, value) })
	}
	good := v.VCEK(nil)
	stranger := v.ARK.Authority("SEV-Milan", chaintest.P384(t), nil)
	short := &snptest.Key{Authority: v.ASK.Certificate, Certificate: v.ASK.Leaf("SEV-VCEK", chaintest.P256(t).Public(), func(c *x509.Certificate) {
		c.ExtraExtensions = good.Certificate.Extensions
	})}
	for name, c := range map[string]struct {
		key     *snptest.Key
		anchors []snp.Anchor
		r       chain.Revocations
		want    error
	}{
		"good":                 {good, anchors(other, v), v.Revocations(), nil},
		"vlek":                 {v.VLEK(nil), anchors(v), v.Revocations(), nil},
		"octets with a header": {replaced([]int{4}, append([]byte{4, 64}, snptest.HWID[:]...)), anchors(v), v.Revocations(), nil},
		"foreign root":         {good, anchors(other), other.Revocations(), attest.ErrIdentity},
		"no anchor":            {good, nil, v.Revocations(), attest.ErrPolicy},
		"anchor without layout": {good, []snp.Anchor{{Product: "Milan", Root: v.ARK.Certificate}},
			v.Revocations(), attest.ErrPolicy},
		"anchor without root":    {good, []snp.Anchor{{Product: "Milan", Layout: snp.LayoutMilan}}, v.Revocations(), attest.ErrPolicy},
		"anchor without product": {good, []snp.Anchor{{Layout: snp.LayoutMilan, Root: v.ARK.Certificate}}, v.Revocations(), attest.ErrPolicy},
		"anchor of another line": {good, []snp.Anchor{{Product: "Genoa", Layout: snp.LayoutMilan, Root: v.ARK.Certificate}},
			v.Revocations(), attest.ErrIdentity},
		"another line's layout": {good, []snp.Anchor{{Product: "Milan", Layout: snp.LayoutTurin, Root: v.ARK.Certificate}},
			v.Revocations(), attest.ErrMalformed},
		"turin's layout as milan's": {turin.VCEK(nil), []snp.Anchor{{Product: "Turin", Layout: snp.LayoutMilan, Root: turin.ARK.Certificate}},
			turin.Revocations(), attest.ErrMalformed},
		"pinned ask":           {good, []snp.Anchor{{Product: "Milan", Layout: snp.LayoutMilan, Root: v.ASK.Certificate}}, v.Revocations(), attest.ErrIdentity},
		"ask revoked":          {good, anchors(v), v.Revocations(v.ASK.Certificate), attest.ErrRevoked},
		"asvk revoked":         {v.VLEK(nil), anchors(v), v.Revocations(v.ASVK.Certificate), attest.ErrRevoked},
		"another ask revoked":  {good, anchors(v), v.Revocations(v.ASVK.Certificate), nil},
		"no list":              {good, anchors(v), chain.Revocations{Treatment: chain.RequiredOfRoot}, attest.ErrCollateral},
		"revocation unset":     {good, anchors(v), chain.Revocations{}, attest.ErrPolicy},
		"p-256":                {short, anchors(v), v.Revocations(), attest.ErrIdentity},
		"vcek of the asvk":     {vcekBelow(t, v), anchors(v), v.Revocations(), attest.ErrIdentity},
		"vlek of the ask":      {vlekBelow(v), anchors(v), v.Revocations(), attest.ErrIdentity},
		"vcek by a stranger":   {&snptest.Key{Certificate: stranger.Leaf("SEV-VCEK", good.Key.Public(), nil), Authority: stranger.Certificate}, anchors(v), v.Revocations(), attest.ErrMalformed},
		"both ids":             {v.VCEK(func(c *x509.Certificate) { snptest.Replace(c, []int{5}, []byte("\x16\x03abc")) }), anchors(v), v.Revocations(), attest.ErrIdentity},
		"vlek without csp":     {v.VLEK(func(c *x509.Certificate) { snptest.Replace(c, []int{5}, nil) }), anchors(v), v.Revocations(), attest.ErrIdentity},
		"vlek named vcek":      {v.VLEK(func(c *x509.Certificate) { c.Subject.CommonName = "SEV-VCEK" }), anchors(v), v.Revocations(), attest.ErrIdentity},
		"vcek named otherwise": {v.VCEK(func(c *x509.Certificate) { c.Subject.CommonName = "SEV-VLEK" }), anchors(v), v.Revocations(), attest.ErrIdentity},
		"vlek of a chip": {v.VLEK(func(c *x509.Certificate) {
			c.ExtraExtensions = append(c.ExtraExtensions, snptest.Extension([]int{4}, snptest.HWID[:]))
		}), anchors(v), v.Revocations(), attest.ErrIdentity},
		"no hwid":              {replaced([]int{4}, nil), anchors(v), v.Revocations(), attest.ErrIdentity},
		"short hwid":           {replaced([]int{4}, make([]byte, 8)), anchors(v), v.Revocations(), attest.ErrMalformed},
		"no bootloader":        {replaced([]int{3, 1}, nil), anchors(v), v.Revocations(), attest.ErrMalformed},
		"bootloader 256":       {replaced([]int{3, 1}, []byte{2, 2, 1, 0}), anchors(v), v.Revocations(), attest.ErrMalformed},
		"bootloader negative":  {replaced([]int{3, 1}, []byte{2, 1, 0xff}), anchors(v), v.Revocations(), attest.ErrMalformed},
		"bootloader trailing":  {replaced([]int{3, 1}, []byte{2, 1, 1, 0}), anchors(v), v.Revocations(), attest.ErrMalformed},
		"reserved not zero":    {replaced([]int{3, 5}, []byte{2, 1, 1}), anchors(v), v.Revocations(), attest.ErrMalformed},
		"fmc in milan's":       {replaced([]int{3, 9}, []byte{2, 1, 1}), anchors(v), v.Revocations(), attest.ErrMalformed},
		"no product":           {replaced([]int{2}, nil), anchors(v), v.Revocations(), attest.ErrMalformed},
		"product of nothing":   {replaced([]int{2}, []byte("\x16\x00")), anchors(v), v.Revocations(), attest.ErrMalformed},
		"product of 65":        {replaced([]int{2}, []byte("\x16\x41"+strings.Repeat("M", 65))), anchors(v), v.Revocations(), attest.ErrMalformed},
		"product trailing":     {replaced([]int{2}, []byte("\x16\x05MilanM")), anchors(v), v.Revocations(), attest.ErrMalformed},
		"product of context":   {replaced([]int{2}, []byte("\x96\x05Milan")), anchors(v), v.Revocations(), attest.ErrMalformed},
		"hwid trailing":        {replaced([]int{4}, slices.Concat([]byte{4, 64}, snptest.HWID[:], []byte{0})), anchors(v), v.Revocations(), attest.ErrMalformed},
		"product not ia5":      {replaced([]int{2}, []byte("\x04\x05Milan")), anchors(v), v.Revocations(), attest.ErrMalformed},
		"authority as the key": {&snptest.Key{Certificate: v.ASK.Certificate, Authority: v.ARK.Certificate}, anchors(v), v.Revocations(), attest.ErrIdentity},
	} {
		t.Run(name, func(t *testing.T) {
			e, err := snp.VerifyEndorsement(c.key.Certificate, []*x509.Certificate{c.key.Authority}, c.anchors, c.r, snptest.Now)
			if !errors.Is(err, c.want) {
				t.Fatalf("%v, want %v", err, c.want)
			}
			if err == nil && (e.TCB != v.TCB() || e.Product != "Milan" || e.Freshness.Lists != 1) {
				t.Errorf("%+v", e)
			}
		})
	}
	if _, err := snp.VerifyEndorsement(good.Certificate, nil, anchors(v), v.Revocations(), snptest.Now); !errors.Is(err, attest.ErrIdentity) {
		t.Errorf("no authority: %v", err)
	}
	known := v.Anchor()
	known.Authorities = []*x509.Certificate{v.ASK.Certificate}
	if _, err := snp.VerifyEndorsement(good.Certificate, nil, []snp.Anchor{known}, v.Revocations(), snptest.Now); err != nil {
		t.Errorf("known authority: %v", err)
	}
	if _, err := snp.VerifyEndorsement(good.Certificate, []*x509.Certificate{good.Authority}, anchors(v), v.Revocations(), snptest.Now.Add(24*time.Hour)); !errors.Is(err, attest.ErrIdentity) {
		t.Errorf("expired: %v", err)
	}
}

func anchors(vendors ...*snptest.Vendor) []snp.Anchor {
	var all []snp.Anchor
	for _, v := range vendors {
		all = append(all, v.Anchor())
	}
	return all
}

// vlekBelow has the marks of a VLEK and the issuer of VCEKs.
func vlekBelow(v *snptest.Vendor) *snptest.Key {
	mixed := *v
	mixed.ASVK = v.ASK
	return mixed.VLEK(nil)
}

// vcekBelow has the marks of a VCEK and the issuer of VLEKs.
func vcekBelow(t *testing.T, v *snptest.Vendor) *snptest.Key {
	t.Helper()
	swapped := *v
	swapped.ASK = v.ASVK
	return swapped.VCEK(nil)
}

func TestCertificates(t *testing.T) {
	v := snptest.Draw(t, "Milan")
	vcek, vlek := v.VCEK(nil), v.VLEK(nil)
	table := vcek.Table()
	edit := func(f func([]byte)) []byte {
		b := append([]byte(nil), table...)
		f(b)
		return b
	}
	for name, c := range map[string]struct {
		table []byte
		want  error
		n     int
	}{
		"vcek": {table, nil, 3}, "vlek": {vlek.Table(), nil, 3},
		"empty":               {nil, attest.ErrMalformed, 0},
		"no end":              {table[:3*24], attest.ErrMalformed, 0},
		"only the end":        {make([]byte, 24), nil, 0},
		"somebody else's":     {edit(func(b []byte) { b[0] ^= 1 }), nil, 2},
		"past the end":        {edit(func(b []byte) { binary.LittleEndian.PutUint32(b[16:], uint32(len(table))) }), attest.ErrMalformed, 0},
		"offset overflows":    {edit(func(b []byte) { binary.LittleEndian.PutUint32(b[16:], 0xffffffff) }), attest.ErrMalformed, 0},
		"length of nothing":   {edit(func(b []byte) { binary.LittleEndian.PutUint32(b[20:], 0) }), attest.ErrMalformed, 0},
		"too long":            {make([]byte, snp.MaxTable+1), attest.ErrMalformed, 0},
		"too many":            {filled(20 * 24), attest.ErrMalformed, 0},
		"into its own header": {edit(func(b []byte) { binary.LittleEndian.PutUint32(b[16:], 0) }), attest.ErrMalformed, 0},
	} {
		t.Run(name, func(t *testing.T) {
			all, err := snp.ParseTable(c.table)
			if !errors.Is(err, c.want) || len(all) != c.n {
				t.Errorf("%d certificates, %v; want %d, %v", len(all), err, c.n, c.want)
			}
		})
	}
	all, err := snp.ParseTable(table)
	if err != nil {
		t.Fatal(err)
	}
	leaf, authorities, err := all.Leaf(snp.VCEK)
	if err != nil || !leaf.Equal(vcek.Certificate) || len(authorities) != 2 {
		t.Errorf("leaf %v of %d authorities: %v", leaf, len(authorities), err)
	}
	if _, _, err := all.Leaf(snp.VLEK); !errors.Is(err, attest.ErrIdentity) {
		t.Errorf("no vlek: %v", err)
	}
	if _, _, err := append(all, vcek.Certificate).Leaf(snp.VCEK); !errors.Is(err, attest.ErrIdentity) {
		t.Errorf("two vceks: %v", err)
	}
}

func filled(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		if i%24 < 16 {
			b[i] = 1
		}
	}
	return b
}

// Which bytes of a version are somebody's differs; whatever is in the others is
// none that was seen.
func TestReservedBytesOfATCBAreZero(t *testing.T) {
	for layout, reserved := range map[snp.Layout]string{snp.LayoutMilan: "..xxxx..", snp.LayoutTurin: "....xxx."} {
		for at, mark := range reserved {
			var want error
			if mark == 'x' {
				want = attest.ErrMalformed
			}
			if _, err := snp.RawTCB(1 << (8 * at)).Decode(layout); !errors.Is(err, want) {
				t.Errorf("layout %d, byte %d: %v, want %v", layout, at, err, want)
			}
		}
	}
}

func TestEachPartOfATCBHasItsFloor(t *testing.T) {
	floor := snp.TCB{FMC: 5, Bootloader: 5, TEE: 5, SNP: 5, Microcode: 5}
	if below := floor.Below(floor); len(below) > 0 {
		t.Errorf("at the floor: %v", below)
	}
	for name, lower := range map[string]func(*snp.TCB){
		"fmc": func(t *snp.TCB) { t.FMC-- }, "bootloader": func(t *snp.TCB) { t.Bootloader-- }, "tee": func(t *snp.TCB) { t.TEE-- },
		"snp": func(t *snp.TCB) { t.SNP-- }, "microcode": func(t *snp.TCB) { t.Microcode-- },
	} {
		tcb := floor
		lower(&tcb)
		if below := tcb.Below(floor); len(below) != 1 || !strings.HasPrefix(below[0], name) {
			t.Errorf("%s: %v", name, below)
		}
	}
}

// Bytes mean nothing where nobody says how they lie.
func TestTCBOfNoLayout(t *testing.T) {
	for _, layout := range []snp.Layout{0, snp.LayoutTurin + 1} {
		if _, err := snp.RawTCB(0).Decode(layout); !errors.Is(err, attest.ErrPolicy) {
			t.Errorf("layout %d: %v", layout, err)
		}
	}
}

// What nobody signed has no certificate, whatever one is called.
func TestUnsignedHasNoCertificate(t *testing.T) {
	named := snptest.Draw(t, "Milan").VCEK(func(c *x509.Certificate) { c.Subject.CommonName = "SEV-" + snp.Unsigned.String() })
	if _, _, err := (snp.Certificates{named.Certificate}).Leaf(snp.Unsigned); !errors.Is(err, attest.ErrIdentity) {
		t.Errorf("%v", err)
	}
}
