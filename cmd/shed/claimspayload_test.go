package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/toolshed-cloud/shed/attest/payload"
	"github.com/toolshed-cloud/shed/attest/release"
)

// An owner reads what runs where it is not the toolshed, and whom that may reach;
// of a refused machine no manifest says so.
func TestWhatRunsIsShown(t *testing.T) {
	other := func(network string, words ...string) *release.Manifest {
		p := payload.Default()
		p.Command = words
		var err error
		if p.Network, err = payload.ParseNetwork(network); err != nil {
			t.Fatal(err)
		}
		return &release.Manifest{Payload: &release.Payload{Spec: p}}
	}
	for _, c := range []struct {
		manifest *release.Manifest
		want     string
	}{
		{other("off", "/bin/server", "-v", "two words", "\u202egpj.exe"), `payload: /bin/server -v "two words" "\u202egpj.exe", in the toolshed's place; it reaches nobody`},
		{other("open", "/bin/server"), "may reach anybody but"},
		{other("b.example:1,a.example:2", "/bin/server"), "it may reach a.example:2, b.example:1 and nobody else"},
	} {
		shown := claims{Accepted: true}.running(c.manifest)
		var out bytes.Buffer
		if err := showPayload(&out, shown.Payload); err != nil || !strings.Contains(out.String(), c.want) {
			t.Errorf("%q, error %v", out.String(), err)
		}
		if b, err := json.Marshal(shown); err != nil || !strings.Contains(string(b), `"payload":{"command":["/bin/server"`) {
			t.Errorf("%s, error %v", b, err)
		}
	}
	onDisk := other("open", "/bin/toolshed")
	onDisk.Inputs = []release.Input{{Name: release.ToolshedInput}}
	for about, shown := range map[string]claims{
		"the toolshed on the boot disk": claims{Accepted: true}.running(onDisk),
		"refused":                       claims{}.running(other("off", "/bin/server")), "the toolshed": claims{Accepted: true}.running(&release.Manifest{}), "no manifest": claims{Accepted: true}.running(nil),
	} {
		if shown.Payload != nil {
			t.Errorf("%s: %+v", about, shown.Payload)
		}
	}
}
