package powercut

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// write is an entry of a log that a test makes.
type write struct {
	at    uint64
	data  []byte
	flags uint64
}

func encode(writes ...write) []byte {
	var b bytes.Buffer
	sector := func(fields ...uint64) {
		s := make([]byte, 512)
		for i, f := range fields {
			binary.LittleEndian.PutUint64(s[8*i:], f)
		}
		b.Write(s)
	}
	sector(logMagic, logVersion, uint64(len(writes)), 512)
	for _, w := range writes {
		sector(w.at, uint64(len(w.data)/512), w.flags, 0)
		b.Write(w.data)
	}
	return b.Bytes()
}

func filled(c byte, sectors int) []byte { return bytes.Repeat([]byte{c}, 512*sectors) }

func made(t *testing.T, log []byte, c Cut) []byte {
	t.Helper()
	l, err := ReadLog(bytes.NewReader(log))
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "disk"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(16 * 512); err != nil {
		t.Fatal(err)
	}
	if err := l.Make(c, f); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 16*512)
	if _, err := f.ReadAt(b, 0); err != nil {
		t.Fatal(err)
	}
	return b
}

// What was flushed is there whatever is lost, and what was not is there or not.
func TestWhatACutLeaves(t *testing.T) {
	log := encode(
		write{0, filled(1, 4), 0}, write{0, nil, flagFlush},
		write{4, filled(2, 4), 0}, write{8, filled(3, 1), flagFUA}, write{4, filled(4, 4), 0}, write{0, filled(9, 1), 0},
	)
	seen := map[Loss]map[string]bool{}
	for loss := range losses {
		seen[loss] = map[string]bool{}
		for seed := range uint64(200) {
			b := made(t, log, Cut{Before: 5, Loss: loss, Seed: seed})
			if !bytes.Equal(b[:4*512], filled(1, 4)) || !bytes.Equal(b[8*512:9*512], filled(3, 1)) {
				t.Fatalf("%s: what was flushed is not there", loss)
			}
			state := ""
			for i := 4; i < 8; i++ {
				state += string('0' + b[i*512])
			}
			seen[loss][state] = true
		}
	}
	for loss, want := range map[Loss][]string{
		Kept: {"4444"}, Dropped: {"0000"}, Some: {"0000", "2222", "4444"}, Reordered: {"0000", "2222", "4444"},
	} {
		if len(seen[loss]) != len(want) {
			t.Errorf("%s leaves %v", loss, seen[loss])
		}
		for _, state := range want {
			if !seen[loss][state] {
				t.Errorf("%s never leaves %s", loss, state)
			}
		}
	}
	if !seen[Torn]["2424"] && !seen[Torn]["0424"] && !seen[Torn]["4042"] && len(seen[Torn]) < 20 {
		t.Errorf("torn leaves %v", seen[Torn])
	}
}

// Two writes of one place may reach the disk the wrong way round.
func TestReordered(t *testing.T) {
	log := encode(write{0, filled(1, 1), 0}, write{0, filled(2, 1), 0})
	old := 0
	for seed := range uint64(100) {
		if made(t, log, Cut{Before: 2, Loss: Reordered, Seed: seed})[0] == 1 {
			old++
		}
	}
	// A quarter is the older alone, an eighth both with the older on top.
	if old < 27 {
		t.Errorf("the older write is there %d times of 100", old)
	}
}

func TestCutsAreSpread(t *testing.T) {
	l := &Log{Entries: make([]Entry, 1000)}
	last := -1
	for i, c := range Cuts(l, 100, 25, 7) {
		if c.Before < 100+36*i || c.Before >= 100+36*(i+1) || c.Before <= last || c.Loss != Loss(i)%losses {
			t.Errorf("cut %d: %s", i, c)
		}
		last = c.Before
	}
}

func FuzzReadLog(f *testing.F) {
	f.Add(encode(write{0, filled(1, 1), 0}, write{0, nil, flagFlush}))
	f.Add(encode(write{1 << 50, filled(1, 1), 0}))
	f.Add([]byte{1})
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := ReadLog(bytes.NewReader(b))
		if err != nil {
			return
		}
		for _, e := range l.Entries {
			if e.Bytes < 0 || e.Bytes > maxWrite || e.At < 0 {
				t.Errorf("%+v", e)
			}
		}
	})
}

func TestWhatIsNoLog(t *testing.T) {
	many := encode()
	binary.LittleEndian.PutUint64(many[16:], 1<<30)
	for name, b := range map[string][]byte{"zeros": make([]byte, 512), "many": many, "far": encode(write{1 << 50, filled(1, 1), 0})} {
		if _, err := ReadLog(bytes.NewReader(b)); !errors.Is(err, ErrLog) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
