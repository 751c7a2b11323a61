package orchestrator_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/orchestrator"
)

// New machines are made from no release that was withdrawn, whatever is named.
func TestDefaultRelease(t *testing.T) {
	old, mid, newest, none := attest.ReleaseDigest{1}, attest.ReleaseDigest{2}, attest.ReleaseDigest{3}, attest.ReleaseDigest{}
	all := []orchestrator.Release{{Digest: newest}, {Digest: mid}, {Digest: old}}
	for name, c := range map[string]struct {
		all       []orchestrator.Release
		named     attest.ReleaseDigest
		withdrawn []attest.ReleaseDigest
		want      attest.ReleaseDigest
	}{
		"the newest":              {all, none, nil, newest},
		"the named":               {all, old, nil, old},
		"the newest withdrawn":    {all, none, []attest.ReleaseDigest{newest}, mid},
		"another one withdrawn":   {all, none, []attest.ReleaseDigest{mid}, newest},
		"all withdrawn":           {all, none, []attest.ReleaseDigest{old, mid, newest}, none},
		"the named one withdrawn": {all, mid, []attest.ReleaseDigest{mid}, none},
		"a named one not there":   {all, attest.ReleaseDigest{4}, nil, none},
		"none":                    {nil, none, nil, none},
	} {
		r, err := orchestrator.DefaultRelease(c.all, c.named, func(d attest.ReleaseDigest) bool { return slices.Contains(c.withdrawn, d) })
		if r.Digest != c.want || c.want.IsZero() != errors.Is(err, orchestrator.ErrNotFound) {
			t.Errorf("%s: release %s, error %v; want %s", name, r.Digest, err, c.want)
		}
	}
	if r, err := orchestrator.DefaultRelease(all, none, nil); err != nil || r.Digest != newest {
		t.Errorf("without a log: release %s, error %v", r.Digest, err)
	}
}
