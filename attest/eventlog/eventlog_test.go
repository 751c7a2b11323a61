package eventlog_test

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/eventlog"
)

func logged(events ...eventlog.Event) []byte { return eventlog.Encode(events) }

func event(register uint32, text string) eventlog.Event {
	return eventlog.Event{Register: register, Type: 0x0d, Digest: attest.Sum([]byte(text)), Data: []byte(text)}
}

// vectors are real logs out of others' modules, by file name. A module is
// downloaded where nothing that was built needed it.
func vectors(t testing.TB) map[string][]byte {
	t.Helper()
	found := map[string][]byte{}
	for module, logs := range map[string]string{
		"github.com/google/go-tpm-tools":          "internal/test/eventlogs/*.bin",
		"github.com/google/go-attestation@v0.6.1": "attest/testdata/*_eventlog",
	} {
		out, err := exec.Command("go", "mod", "download", "-json", module).Output()
		if err != nil {
			t.Fatalf("%s: %v\n%s", module, err, out)
		}
		var downloaded struct{ Dir string }
		if err := json.Unmarshal(out, &downloaded); err != nil {
			t.Fatal(err)
		}
		paths, err := filepath.Glob(filepath.Join(downloaded.Dir, logs))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			if found[filepath.Base(path)], err = os.ReadFile(path); err != nil {
				t.Fatal(err)
			}
		}
	}
	return found
}

// ofOld are the real logs in the format of old, which has no SHA-256 bank.
var ofOld = []string{"debian-10.bin", "ebs_event_missing_eventlog", "option_rom_eventlog", "short_no_action_eventlog"}

func TestRealLogs(t *testing.T) {
	all := vectors(t)
	if len(all) < 21 {
		t.Errorf("%d logs, want the 21 that there are", len(all))
	}
	for name, b := range all {
		events, err := eventlog.Parse(b)
		if slices.Contains(ofOld, name) {
			if !errors.Is(err, attest.ErrMalformed) {
				t.Errorf("%s: %v, want %v", name, err, attest.ErrMalformed)
			}
			continue
		}
		registers := eventlog.Replay(events)
		if err != nil || len(events) < 10 || registers[4] == (attest.Digest{}) || registers[7] == (attest.Digest{}) {
			t.Errorf("%s: %d events, register 4 is %s, error %v", name, len(events), registers[4], err)
		}
	}
}

func TestExplainNamesTheEvent(t *testing.T) {
	good := []eventlog.Event{event(4, "action"), event(4, "separator"), event(4, "image")}
	var reference []attest.Digest
	for _, e := range good {
		reference = append(reference, e.Digest)
	}
	wanted := eventlog.Replay(good)[4]
	for name, c := range map[string]struct {
		events    []eventlog.Event
		reference []attest.Digest
		want      string
	}{
		"changed":             {[]eventlog.Event{good[0], good[1], event(4, "another")}, reference, `event 3 of 3 differs: EV_IPL "another"`},
		"added":               {append([]eventlog.Event{good[0], event(4, "rom")}, good[1:]...), nil, `added: EV_IPL "rom"`},
		"added at the end":    {append(append([]eventlog.Event{}, good...), event(4, "more")), reference, `added after the release's 3: EV_IPL "more"`},
		"missing":             {good[:2], reference, "2 events, the release has 3"},
		"of another register": {append([]eventlog.Event{event(2, "rom")}, good[:2]...), nil, `events: EV_IPL "action"`},
	} {
		got := eventlog.Replay(c.events)[4]
		if text := eventlog.Explain(c.events, 4, got, wanted, c.reference); !strings.HasPrefix(text, c.want) {
			t.Errorf("%s: %q, want %q", name, text, c.want)
		}
	}
}

// An added event is looked for among as many as firmware logs, and not in a log
// that was made long on purpose, where the search would take half a minute.
func TestSearchIsBounded(t *testing.T) {
	for count, want := range map[int]string{64: "added: ", 65: "events: ", eventlog.MaxEvents: "events: "} {
		events := make([]eventlog.Event, count)
		for i := range events {
			events[i] = event(2, "one of many")
		}
		events[count-2] = event(2, "rom")
		wanted := eventlog.Replay(append(slices.Clone(events[:count-2]), events[count-1]))[2]
		text := eventlog.Explain(events, 2, eventlog.Replay(events)[2], wanted, nil)
		if !strings.HasPrefix(text, want) {
			t.Errorf("%d events: %q, want %q", count, text, want)
		}
	}
}

// A log that does not replay to the register explains nothing, whatever it says.
func TestALyingLogExplainsNothing(t *testing.T) {
	good := []eventlog.Event{event(2, "separator"), event(2, "rom")}
	got := eventlog.Replay(good)[2]
	for name, events := range map[string][]eventlog.Event{
		"truncated": good[:1],
		"extended":  append(append([]eventlog.Event{}, good...), event(2, "more")),
		"reordered": {good[1], good[0]},
		"retyped":   {good[0], {Register: 2, Type: 3, Digest: good[1].Digest}},
		"empty":     nil,
	} {
		if text := eventlog.Explain(events, 2, got, attest.Digest{1}, nil); text != "" {
			t.Errorf("%s: %q", name, text)
		}
	}
	// What nothing authenticates is quoted as it can be printed, and no longer.
	odd := []eventlog.Event{event(2, "\x1b[2J"+strings.Repeat("a", 500))}
	text := eventlog.Explain(odd, 2, eventlog.Replay(odd)[2], attest.Digest{1}, nil)
	if strings.Contains(text, "\x1b") || len(text) > 200 {
		t.Errorf("%q", text)
	}
}

func TestMalformedLogs(t *testing.T) {
	whole := logged(event(2, "rom"))
	for name, b := range map[string][]byte{
		"empty": {}, "cut": whole[:len(whole)-1], "no header": whole[60:],
		"too long": make([]byte, eventlog.MaxBytes+1),
		"another bank in an event": func() []byte {
			b := append([]byte{}, whole...)
			b[len(b)-3-4-32-2] = 0x04
			return b
		}(),
	} {
		if _, err := eventlog.Parse(b); !errors.Is(err, attest.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	many := make([]eventlog.Event, eventlog.MaxEvents+1)
	if _, err := eventlog.Parse(logged(many...)); !errors.Is(err, attest.ErrMalformed) {
		t.Errorf("too many events: %v", err)
	}
	if events, err := eventlog.Parse(whole); err != nil || len(events) != 1 || events[0].Digest != attest.Sum([]byte("rom")) {
		t.Errorf("%+v, error %v", events, err)
	}
}

// A bank's digests are at most SHA-512's, also of a bank that nobody reads.
func TestSizeOfABank(t *testing.T) {
	for size, want := range map[uint16]error{0: attest.ErrMalformed, 1: nil, 64: nil, 65: attest.ErrMalformed} {
		log := logged()
		// The number of banks stands behind the event's head of 32 bytes, the
		// signature and 8 bytes more; one that is unknown is added to it.
		const count = 32 + 16 + 8
		log[count] = 2
		log = slices.Insert(log, count+4, 0x34, 0x12, byte(size), byte(size>>8))
		log[28] += 4
		if _, err := eventlog.Parse(log); !errors.Is(err, want) {
			t.Errorf("%d bytes: %v, want %v", size, err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(logged(event(2, "rom")))
	f.Add(logged(event(0, "a"), event(4, "b")))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		events, err := eventlog.Parse(b)
		if err != nil {
			if !errors.Is(err, attest.ErrMalformed) {
				t.Errorf("error %v of another kind", err)
			}
			return
		}
		registers := eventlog.Replay(events)
		for r := range uint8(len(registers)) {
			eventlog.Explain(events, r, registers[r], attest.Digest{1}, nil)
		}
	})
}
