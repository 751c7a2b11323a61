package main

import (
	"crypto"
	"testing"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/evidence"
	"github.com/toolshed-cloud/shed/attest/release"
	"github.com/toolshed-cloud/shed/attest/release/logtest"
)

// onSignedAnew have the release that a good machine shows signed and logged by
// keys that are drawn here, so that its signature is never why it is refused.
func onSignedAnew(tb testing.TB, good *captured) ([]attack, error) {
	shown, err := evidence.Decode(good.bundle.Evidence)
	if err != nil {
		return nil, err
	}
	log, key := logtest.New(tb, 2), logtest.NewReleaseKey(tb)
	log.Time = good.terms.At
	signed := func(change func(*release.Manifest)) outcome {
		m, err := release.ParseManifest(shown.ReferenceValues.Manifest)
		if err != nil {
			return outcome{err: err}
		}
		change(m)
		encoded, err := m.Encode()
		if err != nil {
			return outcome{err: err}
		}
		index := log.Add(logtest.EntryFor(tb, key, m, encoded))
		b, err := good.altered(func(e *evidence.Evidence) {
			e.ReferenceValues = evidence.ReferenceValues{Manifest: encoded, Bundle: logtest.NewBundle(tb, key, encoded), Proof: log.Document(index)}
		})
		if err != nil {
			return outcome{err: err}
		}
		terms := good.terms
		terms.Keys, terms.Log = []crypto.PublicKey{key.Public()}, log.Policy()
		return good.judge(b, terms)
	}
	twin := signed(func(*release.Manifest) {})
	var all []attack
	for _, register := range []string{"4", "9", "11"} {
		name := "pcr" + register
		all = append(all, attack{
			name: "another release (" + name + ")", reason: reason{kind: attest.ErrRegisters, says: name, differs: []string{name}}, good: twin,
			bad: signed(func(m *release.Manifest) {
				for i := range m.Boots {
					m.Boots[i].SHA256[register], m.Boots[i].Events = attest.Digest{9}.String(), nil
				}
			}),
		})
	}
	return all, nil
}
