package release

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/toolshed-cloud/shed/attest"
)

// withChange has the release change a variable, whose event of register 7 is number n.
func withChange(m *Manifest, variable string, n int) *SecureBootChange {
	withSecureBoot(m)
	m.Schema = SchemaSecureBootChange
	seven := func(other string) (value string, events []string) {
		var d attest.Digest
		for k := range secureBootEvents {
			e := attest.Sum(fmt.Append(nil, k))
			if k == n {
				e = attest.Sum([]byte(other))
			}
			d = attest.Extend(d, e)
			events = append(events, e.String())
		}
		return d.String(), events
	}
	boot := func(other, wide string) Boot {
		b := Boot{SecureBoot: true, SHA256: maps.Clone(m.Boots[1].SHA256), SHA384: maps.Clone(m.Boots[1].SHA384), Events: map[string][]string{}}
		b.SHA256["7"], b.Events["7"] = seven(other)
		b.SHA384["7"] = strings.Repeat(wide, 48)
		return b
	}
	m.Boots = []Boot{m.Boots[0], boot("after", "0a"), boot("before", "0b")}
	m.SecureBootChange = &SecureBootChange{
		Variable: variable, Adds: []attest.Digest{attest.Sum([]byte("certificate"))},
		Write: &File{Name: "secure-boot.auth", SHA256: attest.Sum([]byte("write")), Bytes: 1500},
	}
	return m.SecureBootChange
}

// A change stands in the manifest with whatever else it has; its two registers are
// told apart, and its file is served beside those of an update.
func TestManifestWithChange(t *testing.T) {
	for name, also := range map[string]func(*Manifest){
		"alone":              func(*Manifest) {},
		"not signed":         func(m *Manifest) { m.SecureBootChange.Write = nil },
		"with documents":     func(m *Manifest) { withDocuments(m); m.Schema = SchemaSecureBootChange },
		"with a payload":     func(m *Manifest) { withPayload(m); m.Schema = SchemaSecureBootChange },
		"a cloud's firmware": func(m *Manifest) { m.Firmware = nil },
		"Secure Boot alone":  func(m *Manifest) { m.Boots = m.Boots[1:] },
	} {
		m := sampleManifest()
		withChange(m, VariableDB, eventDB)
		also(m)
		again, err := ParseManifest(encoded(t, m))
		if err != nil || !reflect.DeepEqual(again, m) {
			t.Errorf("%s: %+v, error %v", name, again, err)
		}
	}
	m := sampleManifest()
	c := withChange(m, VariableDBX, eventDBX)
	before, err := c.Event(*m.BeforeChange())
	if err != nil || before != attest.Sum([]byte("before")) {
		t.Errorf("%s, %v", before, err)
	}
	if after, err := c.Event(*m.AfterChange()); err != nil || after != attest.Sum([]byte("after")) {
		t.Errorf("%s, %v", after, err)
	}
	other := *c
	other.Variable = "KEK"
	if _, err := other.Event(*m.AfterChange()); !errors.Is(err, attest.ErrRelease) {
		t.Errorf("an event of KEK: %v", err)
	}
	none := *m.AfterChange()
	none.Events = nil
	if _, err := c.Event(none); !errors.Is(err, attest.ErrRelease) {
		t.Errorf("an event of none: %v", err)
	}
	none.Events = map[string][]string{"7": {"nonsense"}}
	if _, err := c.Event(none); !errors.Is(err, attest.ErrRelease) || none.SameLists(nil) {
		t.Errorf("an event that is none: %v", err)
	}
	if f, ok := m.ServedFile("secure-boot.auth"); !ok || f != *c.Write || slices.Contains(m.UpdateFiles(), f) {
		t.Errorf("%+v, %v", f, ok)
	}
	plain := sampleManifest()
	if plain.BeforeChange() != nil || plain.AfterChange() != nil {
		t.Error("a release without a change has a before and an after")
	}
}

func TestManifestRefusesChange(t *testing.T) {
	for want, change := range map[string]func(*Manifest){
		"schema is 5: secure_boot_change is what schema 6": func(m *Manifest) { m.Schema = SchemaDocuments },
		"schema is 6: secure_boot_change is what schema 6": func(m *Manifest) { m.SecureBootChange = nil },
		"variable is \"KEK\"":                              func(m *Manifest) { m.SecureBootChange.Variable = "KEK" },
		"event 3 of register 7 is not as a":                func(m *Manifest) { m.SecureBootChange.Variable = VariableDBX },
		"event 2 of register 7 is not as a":                func(m *Manifest) { withChange(m, VariableDB, 2) },
		"is not as a change of db leaves it":               func(m *Manifest) { withChange(m, VariableDB, 6) },
		"register 7 is the same before and":                func(m *Manifest) { m.Boots[2] = m.Boots[1] },
		"register 7 is the same before and after, or not named": func(m *Manifest) {
			delete(m.Boots[2].SHA256, "7")
			delete(m.Boots[2].SHA384, "7")
			m.Boots[2].Events = nil
		},
		"differ in other registers":                   func(m *Manifest) { m.Boots[2].SHA256["11"] = strings.Repeat("ee", 32) },
		"last two of boots differ in other registers": func(m *Manifest) { m.Boots[2].SHA384["11"] = strings.Repeat("ee", 48) },
		"events of register 7: 1 to 64":               func(m *Manifest) { m.Boots[2].Events["7"] = []string{} },
		"register 7: 1 to 64 digests":                 func(m *Manifest) { m.Boots[2].Events["7"] = slices.Repeat(m.Boots[2].Events["7"], 10) },
		"1 to 64 digests of 64 lowercase":             func(m *Manifest) { m.Boots[2].Events["7"][0] = strings.ToUpper(m.Boots[2].Events["7"][0]) },
		"has not 7 events":                            func(m *Manifest) { m.Boots[1].Events = nil },
		"do not make its value":                       func(m *Manifest) { m.Boots[2].SHA256["7"] = strings.Repeat("ee", 32) },
		"are not with Secure Boot on":                 func(m *Manifest) { m.Boots[2].SecureBoot = false },
		"boots has 1 entries, want those":             func(m *Manifest) { m.Boots = m.Boots[:1] },
		"last two of boots":                           func(m *Manifest) { m.Boots = m.Boots[:2] },
		"boots has 3 entries, want 1 or 2":            func(m *Manifest) { m.Boots = slices.Insert(m.Boots, 0, m.Boots[0]) },
		"write.name":                                  func(m *Manifest) { m.SecureBootChange.Write.Name = "../auth" },
		"write.sha256":                                func(m *Manifest) { m.SecureBootChange.Write.SHA256 = attest.Digest{} },
		"write.bytes is 1073741824":                   func(m *Manifest) { m.SecureBootChange.Write.Bytes = 1 << 30 },
		"adds has 257 entries":                        func(m *Manifest) { m.SecureBootChange.Adds = slices.Repeat(m.SecureBootChange.Adds, 257) },
		"removes has 1 entries":                       func(m *Manifest) { m.SecureBootChange.Removes = make([]attest.Digest, 1) },
	} {
		m := sampleManifest()
		withChange(m, VariableDB, eventDB)
		change(m)
		if _, err := m.Encode(); !errors.Is(err, attest.ErrRelease) || !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("%s: error %v", want, err)
		}
	}
	// Without a change there is none more than the firmware's modes.
	m := sampleManifest()
	m.Boots = append(m.Boots, m.Boots[1])
	if _, err := m.Encode(); !errors.Is(err, attest.ErrRelease) {
		t.Errorf("three boots: %v", err)
	}
}

// Another certificate of the same db may vouch for an image, which is no other db.
func TestSameLists(t *testing.T) {
	m := sampleManifest()
	withChange(m, VariableDB, eventDB)
	b := *m.BeforeChange()
	events, err := b.EventDigests("7")
	if err != nil {
		t.Fatal(err)
	}
	other := slices.Clone(events)
	other[secureBootEvents-1] = attest.Sum([]byte("another certificate"))
	if !b.SameLists(events) || !b.SameLists(other) {
		t.Error("they are others")
	}
	for n := range secureBootEvents - 1 {
		another := slices.Clone(events)
		another[n][0]++
		if b.SameLists(another) {
			t.Errorf("they are the same with another event %d", n)
		}
	}
	if b.SameLists(events[:6]) || b.SameLists(nil) || m.AfterChange().SameLists(events) || m.Boots[0].SameLists(nil) {
		t.Error("they are the same")
	}
}
