package verifier_test

import (
	"strings"
	"testing"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/release"
	"github.com/toolshed-cloud/shed/attest/verifier/verifiertest"
)

// Where the payload's files are is said: in the image, or on a disk of the host's,
// checked against what was measured.
func TestWhereThePayloadsFilesAre(t *testing.T) {
	m := verifiertest.Boot(t)
	for _, c := range []struct {
		payload *release.Payload
		onDisk  bool
	}{{nil, false}, {&release.Payload{}, false}, {&release.Payload{Root: &release.Root{}}, true}} {
		p := m.Policy()
		mine := *m.Release
		mine.Payload = c.payload
		p.Releases = map[attest.ReleaseDigest]*release.Manifest{{9}: &mine}
		r, err := m.Input(t).Appraise(p)
		if err != nil {
			t.Fatal(err)
		}
		if f := r.Finding(attest.FileSystem); f.Verdict != attest.Affirming || strings.Contains(f.Reason, "boot disk") != c.onDisk {
			t.Errorf("%+v: %+v", c.payload, f)
		}
	}
}
