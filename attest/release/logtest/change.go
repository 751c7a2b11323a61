package logtest

import (
	"fmt"
	"maps"
	"strings"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/release"
)

// Changing has a synthetic release change Secure Boot's db: its boots are then one
// with Secure Boot off, and what a machine shows after the change and before.
func Changing(m *release.Manifest) {
	boot := func(db string) release.Boot {
		off := m.Boots[0]
		b := release.Boot{SecureBoot: true, SHA256: maps.Clone(off.SHA256), SHA384: maps.Clone(off.SHA384), Events: map[string][]string{}}
		var seven attest.Digest
		for _, event := range []string{"SecureBoot", "PK", "KEK", db, "dbx", "separator", "authority"} {
			d := attest.Sum(fmt.Append(nil, event))
			seven = attest.Extend(seven, d)
			b.Events["7"] = append(b.Events["7"], d.String())
		}
		b.SHA256["7"], b.SHA384["7"] = seven.String(), strings.Repeat(seven.String()[:32], 3)
		return b
	}
	m.Schema = release.SchemaSecureBootChange
	m.Boots = []release.Boot{m.Boots[0], boot("db after"), boot("db before")}
	m.SecureBootChange = &release.SecureBootChange{
		Variable: release.VariableDB, Adds: []attest.Digest{attest.Sum([]byte("certificate"))},
		Write: &release.File{Name: "secure-boot.auth", SHA256: attest.Sum([]byte("write")), Bytes: 5},
	}
}
