package agent_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/toolshed-cloud/shed/agent/api"
	"github.com/toolshed-cloud/shed/agent/esp"
	"github.com/toolshed-cloud/shed/agent/update"
)

// handedOver is a machine that is to start the next release once.
func handedOver(t *testing.T) (*machine, *releases) {
	t.Helper()
	m, keys, _ := claimed(t)
	r := new(releases)
	d := m.add(r, "1.1.0", "next", 2)
	m.offer(d, 1)
	m.until(r, api.UpdateAwaiting)
	if err := m.approve(keys, d, 2, nil); err != nil {
		t.Fatal(err)
	}
	if err := m.FollowUpdates(t.Context(), r); !errors.Is(err, update.ErrRestart) {
		t.Fatal(err)
	}
	return m, r
}

// A host that starts the next release as if it were kept already has it tried all the
// same: what the firmware says of a boot is the host's word.
func TestAReleaseThatTheHostSaysIsKept(t *testing.T) {
	m, r := handedOver(t)
	if err := os.Remove(filepath.Join(string(m.starts.variables), bootName("BootNext"))); err != nil {
		t.Fatal(err)
	}
	swap := func() {
		f, err := os.OpenFile(m.starts.disk, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		v, err := esp.Open(f)
		if err != nil {
			t.Fatal(err)
		}
		if err := v.Swap(running, other); err != nil {
			t.Fatal(err)
		}
	}
	swap()
	m.reboot()
	m.runs("next")
	if !m.Trying() || !slices.Equal(m.data.used, []string{"trial"}) {
		t.Errorf("on trial %t, the data used for %q", m.Trying(), m.data.used)
	}
	// So the one before can still go on with its data.
	swap()
	m.reboot()
	m.runs("image")
	if s := m.status(); s == nil || s.Step != api.UpdateFellBack {
		t.Errorf("it says %+v", s)
	}
	m.offer(m.status().Release, 2)
	m.follow(r)
	if asked, err := m.starts.variables.Asked(); asked || err != nil {
		t.Errorf("the firmware is to start it once more: %t, %v", asked, err)
	}
}

// The power is cut once the slots have changed places: the next boot finishes it,
// whatever the firmware says.
func TestAKeptReleaseIsNotTriedAgain(t *testing.T) {
	m, r := handedOver(t)
	m.reboot()
	m.data.cut = errors.New("the power is cut")
	if err := m.FollowUpdates(t.Context(), r); !errors.Is(err, update.ErrRestart) {
		t.Fatal(err)
	}
	m.reboot()
	m.runs("next")
	if m.Trying() || !slices.Equal(m.data.used, []string{"kept", "tidy"}) {
		t.Errorf("on trial %t, the data used for %q", m.Trying(), m.data.used)
	}
	if s := m.status(); s == nil || s.Step != api.UpdateDone {
		t.Errorf("it says %+v", s)
	}
	m.reboot()
	if s := m.status(); s == nil || s.Step != api.UpdateDone || !slices.Equal(m.data.used, []string{"settled"}) {
		t.Errorf("afterwards it says %+v, the data used for %q", s, m.data.used)
	}
}
