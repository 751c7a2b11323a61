package agent_test

import (
	"encoding/binary"
	"errors"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/toolshed-cloud/shed/agent/api"
	"github.com/toolshed-cloud/shed/agent/update"
	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/attester/swtpmtest"
	"github.com/toolshed-cloud/shed/attest/client"
	"github.com/toolshed-cloud/shed/attest/ownership"
	"github.com/toolshed-cloud/shed/attest/release"
)

// writeName is the file of a change.
const writeName = "secure-boot.auth"

// listChange is what a release changes of the firmware's lists.
type listChange struct {
	variable string
	from, to []byte
	// write is what its manifest names; empty where that is not signed.
	write []byte
}

// written is an authenticated write whose signature nobody looks at here; package
// secureboot's are tried there, and by firmware.
func written(contents []byte) []byte {
	b := binary.LittleEndian.AppendUint32(make([]byte, 16), 24+3)
	b = append(b, 0x00, 0x02, 0xf1, 0x0e, 0x9d, 0xd2, 0xaf, 0x4a, 0xdf, 0x68, 0xee, 0x49, 0x8a, 0xa9, 0x34, 0x7d, 0x37, 0x56, 0x65, 0xa7)
	return append(append(b, "sig"...), contents...)
}

// withLists has a manifest say what Secure Boot measures on the machine as it is, and
// before and after a change.
func (m *machine) withLists(described *release.Manifest, image string) {
	if m.starts.lists == nil {
		return
	}
	boot := func(lists map[string][]byte) release.Boot {
		b := release.Boot{SecureBoot: true, SHA256: maps.Clone(described.Boots[0].SHA256), SHA384: maps.Clone(described.Boots[0].SHA384), Events: map[string][]string{}}
		var d attest.Digest
		for _, e := range m.starts.seven(lists, image) {
			d = attest.Extend(d, e)
			b.Events["7"] = append(b.Events["7"], e.String())
		}
		b.SHA256["7"], b.SHA384["7"] = d.String(), strings.Repeat(d.String()[:32], 3)
		return b
	}
	c, changes := m.changes[image]
	if !changes {
		described.Boots = append(described.Boots, boot(m.starts.lists))
		return
	}
	before, after := maps.Clone(m.starts.lists), maps.Clone(m.starts.lists)
	before[c.variable], after[c.variable] = c.from, c.to
	described.Boots = append(described.Boots, boot(after), boot(before))
	described.Schema, described.SecureBootChange = release.SchemaSecureBootChange, &release.SecureBootChange{Variable: c.variable}
	if len(c.write) > 0 {
		described.SecureBootChange.Write = &release.File{Name: writeName, SHA256: attest.Sum(c.write), Bytes: int64(len(c.write))}
	}
}

// The lists of a machine with Secure Boot, and db with one more certificate.
var (
	dbBefore = []byte("db: one certificate")
	dbAfter  = []byte("db: one certificate and another")
)

// changing is a machine with Secure Boot that was claimed and has been updated to a
// release that changes db.
func changing(t *testing.T, updates client.Updates) (m *machine, keys client.Keys, r *releases, d attest.ReleaseDigest) {
	t.Helper()
	m, keys = newMachineBy(t, swtpmtest.Start(t), map[string][]byte{"db": dbBefore}), newKeys(t)
	trust := m.trust()
	trust.Updates = updates
	s, err := trust.Connect(t.Context(), m.url, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Claim(t.Context(), keys); err != nil {
		t.Fatal(err)
	}
	m.changes["next"] = listChange{"db", dbBefore, dbAfter, written(dbAfter)}
	r = &releases{write: written(dbAfter)}
	d = m.add(r, "1.1.0", "next", 2)
	m.offer(d, 1)
	if !updates.Standing {
		m.until(r, api.UpdateAwaiting)
		if err := m.approve(keys, d, 2, nil); err != nil {
			t.Fatal(err)
		}
	}
	m.follow(r)
	m.runs("next")
	m.until(r, api.UpdateDone)
	return m, keys, r, d
}

// shows wants register 7 to be that of before the change, or of after it.
func (m *machine) shows(before bool) {
	m.t.Helper()
	m.runs("next")
	s := m.connect()
	want := s.Release.AfterChange()
	if before {
		want = s.Release.BeforeChange()
	}
	if got := s.Evidence.Registers[7].String(); got != want.SHA256["7"] {
		m.t.Errorf("register 7 is %.16s, want %.16s", got, want.SHA256["7"])
	}
}

// A release that changes db is run with db as it was; the change is an update by
// itself, which the owner approves by itself, and there is nothing to try after it.
func TestListIsChanged(t *testing.T) {
	m, keys, r, d := changing(t, client.Updates{})
	m.shows(true)
	if got := m.serves(keys); got != http.StatusOK {
		t.Errorf("before the change the payload answers %d", got)
	}
	diskBefore, err := os.ReadFile(m.disk)
	if err != nil {
		t.Fatal(err)
	}
	m.offer(d, 2)
	m.until(r, api.UpdateAwaiting)
	// The word for the update is none for the change.
	first := func(b *ownership.ApprovalBody) { b.Number-- }
	if err := m.approve(keys, d, 2, first); status(err) != http.StatusConflict {
		t.Errorf("the approval of the update: %v", err)
	}
	if err := m.approve(keys, d, 2, nil); err != nil {
		t.Fatal(err)
	}
	m.follow(r)
	m.shows(false)
	if s := m.status(); s == nil || s.Step != api.UpdateDone || s.Attempt != 2 || m.Trying() {
		t.Errorf("after the change: %+v", s)
	}
	if want := []string{"kept", "tidy"}; !slices.Equal(m.data.used, want) {
		t.Errorf("the data was used for %q, want %q", m.data.used, want)
	}
	if got := m.serves(keys); got != http.StatusOK {
		t.Errorf("after the change the payload answers %d", got)
	}
	if n := m.shown(keys).Number; n != 3 {
		t.Errorf("the next update is number %d", n)
	}
	if last := m.starts.booted[len(m.starts.booted)-1]; last != running {
		t.Errorf("%s was started", last)
	}
	m.offer(d, 3)
	m.until(r, api.UpdateDone)

	// The host has the variables: with those from before, nothing opens, and neither
	// with the disk from before beside them.
	diskAfter, err := os.ReadFile(m.disk)
	if err != nil {
		t.Fatal(err)
	}
	for name, disk := range map[string][]byte{"now": diskAfter, "before": diskBefore} {
		m.starts.lists["db"] = dbBefore
		m.write(disk)
		m.reboot()
		if len(m.data.used) > 0 || !m.Awaiting() {
			t.Errorf("with db from before and the disk from %s the data is used for %q", name, m.data.used)
		}
	}
	m.starts.lists["db"] = dbAfter
	m.write(diskAfter)
	m.reboot()
	m.shows(false)
	if want := []string{"settled"}; !slices.Equal(m.data.used, want) {
		t.Errorf("the data was used for %q, want %q", m.data.used, want)
	}
}

// write has the host write the data disk.
func (m *machine) write(disk []byte) {
	m.t.Helper()
	if err := os.WriteFile(m.disk, disk, 0o600); err != nil {
		m.t.Fatal(err)
	}
}

// A firmware that does not take the change, or says that it did, or a power cut before
// it could, leaves everything as it was; offered again it is made by the same word.
func TestListThatIsNotChanged(t *testing.T) {
	for name, answer := range map[string]error{"it says so": errors.New("access denied"), "it says that it did": nil} {
		t.Run(name, func(t *testing.T) {
			m, keys, r, d := changing(t, client.Updates{})
			m.offer(d, 2)
			m.until(r, api.UpdateAwaiting)
			m.starts.unwilling, m.starts.answer = true, answer
			if err := m.approve(keys, d, 2, nil); err != nil {
				t.Fatal(err)
			}
			m.follow(r)
			m.shows(true)
			if s := m.status(); s == nil || s.Step != api.UpdateFellBack || s.Reason != api.ReasonListUnchanged {
				t.Errorf("it says %+v", s)
			}
			if want := []string{"restored", "tidy"}; !slices.Equal(m.data.used, want) {
				t.Errorf("the data was used for %q, want %q", m.data.used, want)
			}
			if n := m.shown(keys).Number; n != 2 {
				t.Errorf("the next update is number %d", n)
			}
			m.starts.unwilling, m.starts.answer = false, nil
			m.offer(d, 3)
			m.follow(r)
			m.shows(false)
			if s := m.status(); s == nil || s.Step != api.UpdateDone {
				t.Errorf("offered again: %+v", s)
			}
		})
	}
}

// What would make register 7 another than the release says is not written, whoever
// signed the release: it would close the data for good.
func TestWritesThatAreNotMade(t *testing.T) {
	long := append(written(dbAfter), make([]byte, 1<<10)...)
	for name, c := range map[string]struct {
		named, served []byte
		reason        api.UpdateReason
	}{
		"another":               {written(dbAfter), written([]byte("db: somebody else's, a certificate")), api.ReasonUnreadable},
		"cut off":               {written(dbAfter), written(dbAfter)[:40], api.ReasonUnreadable},
		"longer":                {written(dbAfter), long, api.ReasonUnreadable},
		"stale and named":       {written(dbBefore), written(dbBefore), api.ReasonUnreadable},
		"no write and named":    {[]byte("db"), []byte("db"), api.ReasonUnreadable},
		"one that has no proof": {nil, nil, api.ReasonUnsigned},
	} {
		t.Run(name, func(t *testing.T) {
			m, keys, r, _ := changing(t, client.Updates{})
			m.changes["next"] = listChange{"db", dbBefore, dbAfter, c.named}
			r.write = c.served
			// It is a release of the same image that runs.
			d := m.add(r, "1.1.1", "next", 2)
			m.offer(d, 2)
			if c.reason != api.ReasonUnsigned {
				m.until(r, api.UpdateAwaiting)
				if err := m.approve(keys, d, 2, nil); err != nil {
					t.Fatal(err)
				}
			}
			if s := m.until(r, api.UpdateRefused); s.Reason != c.reason {
				t.Errorf("it is refused for %s, want %s", s.Reason, c.reason)
			}
			if string(m.starts.lists["db"]) != string(dbBefore) {
				t.Error("db has changed")
			}
			m.reboot()
			if want := []string{"settled"}; !slices.Equal(m.data.used, want) {
				t.Errorf("the data was used for %q, want %q", m.data.used, want)
			}
		})
	}
}

// A release that changes a list finds it as it was or as it will be, or is for another
// machine: nothing is skipped.
func TestListsThatTheReleaseDoesNotKnow(t *testing.T) {
	m, _, r, _ := changing(t, client.Updates{})
	m.changes["other"] = listChange{"db", []byte("db: of long ago"), []byte("db: of tomorrow"), written(dbAfter)}
	m.offer(m.add(r, "1.2.0", "other", 3), 2)
	if s := m.until(r, api.UpdateRefused); s.Reason != api.ReasonOtherMachine {
		t.Errorf("it is refused for %s", s.Reason)
	}
}

// Under a standing policy nobody is asked for the change either.
func TestListIsChangedUnderAStandingPolicy(t *testing.T) {
	m, _, r, d := changing(t, client.Updates{Standing: true})
	m.shows(true)
	m.offer(d, 2)
	m.follow(r)
	m.shows(false)
	if s := m.status(); s == nil || s.Step != api.UpdateDone || s.Attempt != 2 {
		t.Errorf("it says %+v", s)
	}
	m.reboot()
	m.shows(false)
}

// Once db has another certificate, a release comes whose image that vouches for, and
// with it the first goes: Secure Boot's signer is another, the data is the same.
func TestSignerIsReplaced(t *testing.T) {
	for name, updates := range map[string]client.Updates{"asked": {}, "standing": {Standing: true}} {
		t.Run(name, func(t *testing.T) {
			m, keys, r, d := changing(t, updates)
			approve := func(d attest.ReleaseDigest, epoch uint64) {
				t.Helper()
				if updates.Standing {
					return
				}
				m.until(r, api.UpdateAwaiting)
				if err := m.approve(keys, d, epoch, nil); err != nil {
					t.Fatal(err)
				}
			}
			m.offer(d, 2)
			approve(d, 2)
			m.follow(r)
			m.shows(false)

			dbLast := []byte("db: the other certificate")
			m.starts.vouchers = map[string]string{"last": "the other certificate"}
			m.changes["last"], r.write = listChange{"db", dbAfter, dbLast, written(dbLast)}, written(dbLast)
			last := m.add(r, "1.2.0", "last", 3)
			m.offer(last, 3)
			approve(last, 3)
			m.follow(r)
			m.runs("last")
			m.until(r, api.UpdateDone)
			m.offer(last, 4)
			approve(last, 3)
			m.follow(r)
			m.runs("last")
			if s := m.status(); s == nil || s.Step != api.UpdateDone || string(m.starts.lists["db"]) != string(dbLast) {
				t.Errorf("it says %+v, and db is %q", s, m.starts.lists["db"])
			}
			if got := m.serves(keys); got != http.StatusOK {
				t.Errorf("the payload answers %d", got)
			}
		})
	}
}

// A firmware that makes something else of the write closes the data; with either of
// the two lists that the release names it opens again.
func TestListThatBecomesAnother(t *testing.T) {
	m, keys, r, d := changing(t, client.Updates{})
	m.offer(d, 2)
	m.until(r, api.UpdateAwaiting)
	if err := m.approve(keys, d, 2, nil); err != nil {
		t.Fatal(err)
	}
	if err := m.FollowUpdates(t.Context(), r); !errors.Is(err, update.ErrRestart) {
		t.Fatal(err)
	}
	m.starts.lists["db"] = []byte("db: neither")
	m.reboot()
	if len(m.data.used) > 0 {
		t.Errorf("the data is used for %q", m.data.used)
	}
	m.starts.lists["db"] = dbAfter
	m.reboot()
	m.shows(false)
	if s := m.status(); s == nil || s.Step != api.UpdateDone {
		t.Errorf("it says %+v", s)
	}
}
