package logproof_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/canon"
	"github.com/toolshed-cloud/shed/attest/logproof"
	"github.com/toolshed-cloud/shed/attest/release/logtest"
)

func sample(tb testing.TB) (*logtest.Log, *logproof.Proof) {
	tb.Helper()
	l := logtest.New(tb, 1)
	for _, record := range []string{"a", "b", "c"} {
		l.Add([]byte(record))
	}
	return l, l.Proof(1, l.Checkpoint())
}

func TestProofSurvives(t *testing.T) {
	l, p := sample(t)
	again, err := logproof.Parse(p.Encode())
	if err != nil || again.Index != 1 || string(again.Record) != "b" || len(again.Path) != len(p.Path) {
		t.Fatalf("%+v, %v", again, err)
	}
	if err := again.Verify(l.Head()); err != nil {
		t.Error(err)
	}
}

func TestParseRefuses(t *testing.T) {
	_, p := sample(t)
	good := string(p.Encode())
	long := *p
	long.Path = make([]tlog.Hash, 49)
	for name, text := range map[string]string{
		"empty":              "",
		"another version":    strings.Replace(good, "@v1", "@v2", 1),
		"no extra":           strings.Replace(good, "extra Yg==\n", "", 1),
		"extra that is none": strings.Replace(good, "extra Yg==", "extra Y", 1),
		"empty extra":        strings.Replace(good, "extra Yg==", "extra ", 1),
		"another padding":    strings.Replace(good, "extra Yg==", "extra Yh==", 1),
		"leading zero":       strings.Replace(good, "index 1", "index 01", 1),
		"negative index":     strings.Replace(good, "index 1", "index -1", 1),
		"short hash":         strings.Replace(good, "index 1\n", "index 1\nAAAA\n", 1),
		"no checkpoint":      good[:strings.Index(good, "\n\n")],
		"no index":           strings.Replace(good, "index 1", "place 1", 1),
		"no header":          strings.Replace(good, "c2sp.org", "example.org", 1),
		"no head":            good[:strings.Index(good, "\n\n")+2] + "nonsense",
		"long path":          string(long.Encode()),
		"too large":          good + strings.Repeat("x", logproof.MaxBytes),
	} {
		if _, err := logproof.Parse([]byte(text)); !errors.Is(err, attest.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDocumentIsOfOneCheckpoint(t *testing.T) {
	l, p := sample(t)
	other := l.Fork()
	other.Add([]byte("x"))
	most := logproof.Document{Release: p.Encode(), Beside: slices.Repeat([][]byte{p.Encode()}, logproof.MaxBeside)}
	if b, err := most.Encode(); err != nil {
		t.Fatal(err)
	} else if _, err := logproof.ParseDocument(b); err != nil {
		t.Errorf("as many as there may be: %v", err)
	}
	for name, d := range map[string]logproof.Document{
		"another checkpoint": {Release: p.Encode(), Beside: [][]byte{other.Proof(0, other.Checkpoint()).Encode()}},
		"nonsense beside":    {Release: p.Encode(), Beside: [][]byte{[]byte("nonsense")}},
		"no release":         {Beside: [][]byte{p.Encode()}},
		"too many":           {Release: p.Encode(), Beside: slices.Repeat([][]byte{p.Encode()}, logproof.MaxBeside+1)},
	} {
		b, err := d.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := logproof.ParseDocument(b); !errors.Is(err, attest.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestVerifyRefuses(t *testing.T) {
	l, p := sample(t)
	for name, change := range map[string]func(*logproof.Proof){
		"another record":  func(p *logproof.Proof) { p.Record = []byte("a") },
		"another index":   func(p *logproof.Proof) { p.Index = 0 },
		"out of the tree": func(p *logproof.Proof) { p.Index = 3 },
		"shorter path":    func(p *logproof.Proof) { p.Path = p.Path[1:] },
		"longer path":     func(p *logproof.Proof) { p.Path = append([]tlog.Hash{{}}, p.Path...) },
	} {
		changed := *p
		change(&changed)
		if err := changed.Verify(l.Head()); !errors.Is(err, attest.ErrTransparency) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	_, p := sample(f)
	f.Add(p.Encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := logproof.Parse(b)
		if err != nil {
			if !errors.Is(err, attest.ErrMalformed) {
				t.Errorf("error %v of no known kind", err)
			}
			return
		}
		if !bytes.Equal(p.Encode(), b) {
			t.Errorf("two spellings of one proof: %q", b)
		}
	})
}

func FuzzParseDocument(f *testing.F) {
	l, _ := sample(f)
	f.Add(l.Document(0, 1, 2))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := logproof.ParseDocument(b); err != nil && !errors.Is(err, attest.ErrMalformed) {
			t.Errorf("error %v of no known kind", err)
		}
	})
}

func TestDocumentOfAnotherVersion(t *testing.T) {
	_, p := sample(t)
	for version, want := range map[uint64]error{0: attest.ErrMalformed, 1: nil, 2: attest.ErrMalformed} {
		b, err := canon.Marshal(logproof.Document{Version: version, Release: p.Encode()})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := logproof.ParseDocument(b); !errors.Is(err, want) {
			t.Errorf("version %d: %v", version, err)
		}
	}
}

// What is too large is not taken apart.
func TestCaps(t *testing.T) {
	_, p := sample(t)
	long := *p
	long.Record = make([]byte, 5<<10)
	for name, b := range map[string][]byte{"a proof": append(p.Encode(), make([]byte, logproof.MaxBytes)...), "what it carries": long.Encode()} {
		if _, err := logproof.Parse(b); err == nil || !strings.Contains(fmt.Sprint(err), "at most") && !strings.Contains(fmt.Sprint(err), "longer than") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
