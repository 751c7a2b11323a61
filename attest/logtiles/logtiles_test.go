package logtiles_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/checkpoint"
	"github.com/toolshed-cloud/shed/attest/logtiles"
)

// synthetic is a log of so many entries as tiles in memory.
func synthetic(t *testing.T, entries int64) (checkpoint.Checkpoint, logtiles.Fetch) {
	t.Helper()
	var stored []tlog.Hash
	reader := tlog.HashReaderFunc(func(indexes []int64) (out []tlog.Hash, err error) {
		for _, i := range indexes {
			out = append(out, stored[i])
		}
		return out, nil
	})
	files := map[string][]byte{}
	for n := range entries {
		entry := fmt.Appendf(nil, "entry %d", n)
		hashes, err := tlog.StoredHashes(n, entry, reader)
		if err != nil {
			t.Fatal(err)
		}
		stored = append(stored, hashes...)
		width := n%logtiles.Width + 1
		path := logtiles.EntriesPath(n/logtiles.Width, int(width))
		before := files[logtiles.EntriesPath(n/logtiles.Width, int(width-1))]
		files[path] = append(append(slices.Clone(before), binary.BigEndian.AppendUint16(nil, uint16(len(entry)))...), entry...)
	}
	root, err := tlog.TreeHash(entries, reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, tile := range tlog.NewTiles(logtiles.Height, 0, entries) {
		b, err := tlog.ReadTileData(tile, reader)
		if err != nil {
			t.Fatal(err)
		}
		files[logtiles.TilePath(tile.L, tile.N, tile.W)] = b
	}
	return checkpoint.Checkpoint{Origin: "log.example", Size: entries, Root: root}, func(_ context.Context, path string) ([]byte, error) {
		if !logtiles.IsPath(path) {
			t.Errorf("%s is no path of a log", path)
		}
		b, ok := files[path]
		if !ok {
			return nil, fmt.Errorf("no %s", path)
		}
		return b, nil
	}
}

func TestEntriesAndHashes(t *testing.T) {
	for _, size := range []int64{0, 1, 2, 3, 255, 256, 257, 700} {
		head, fetch := synthetic(t, size)
		var tree logtiles.Tree
		for entry, err := range logtiles.Entries(t.Context(), fetch, 0, size) {
			if err != nil {
				t.Fatalf("size %d: %v", size, err)
			}
			tree.Add(entry)
		}
		if tree.Size() != size || tree.Root() != head.Root {
			t.Errorf("size %d: replayed %d entries to %s, want %s", size, tree.Size(), tree.Root(), head.Root)
		}
		if size == 0 {
			continue
		}
		path, err := tlog.ProveRecord(size, size/2, logtiles.Hashes(t.Context(), fetch, head))
		if err != nil {
			t.Fatal(err)
		}
		if err := tlog.CheckRecord(path, size, head.Root, size/2, tlog.RecordHash(fmt.Appendf(nil, "entry %d", size/2))); err != nil {
			t.Errorf("size %d: %v", size, err)
		}
	}
}

func TestHashesOfAnotherRoot(t *testing.T) {
	head, fetch := synthetic(t, 300)
	head.Root[0] ^= 1
	if _, err := tlog.ProveRecord(300, 7, logtiles.Hashes(t.Context(), fetch, head)); err == nil {
		t.Error("a proof of tiles that do not lead to the root")
	}
}

func TestPaths(t *testing.T) {
	for path, want := range map[string]string{
		logtiles.TilePath(0, 0, 256): "tile/0/000", logtiles.TilePath(1, 1234067, 8): "tile/1/x001/x234/067.p/8",
		logtiles.EntriesPath(999, 256): "tile/entries/999", logtiles.EntriesPath(1000, 1): "tile/entries/x001/000.p/1",
	} {
		if path != want {
			t.Errorf("path %s, want %s", path, want)
		}
	}
	for _, path := range []string{
		"", "tile", "tile/", "tile/0", "tile/0/", "tile/0/0", "tile/0/../../log.key", "tile/0/000/000", "tile/x/000", "tile/entries/x000",
		"log.key", ".state/treeState", "tile/0/000.p/", "tile/0/000.p/1/2", "/tile/0/000", "checkpoint/", "tile/0/x000/x000/x000/x000/x000/x000/000",
	} {
		if logtiles.IsPath(path) {
			t.Errorf("%q passes for a path", path)
		}
	}
}

func FuzzParseBundle(f *testing.F) {
	f.Add([]byte("\x00\x01a\x00\x02bc"), 2)
	f.Add([]byte{}, 0)
	f.Fuzz(func(t *testing.T, b []byte, width int) {
		if width < 0 || width > logtiles.Width {
			return
		}
		entries, err := logtiles.ParseBundle(b, width)
		if err != nil {
			if !errors.Is(err, attest.ErrMalformed) {
				t.Errorf("error %v of no known kind", err)
			}
			return
		}
		var again []byte
		for _, e := range entries {
			again = append(binary.BigEndian.AppendUint16(again, uint16(len(e))), e...)
		}
		if !slices.Equal(again, b) {
			t.Errorf("two spellings of one bundle: %x", b)
		}
	})
}

func FuzzIsPath(f *testing.F) {
	f.Add("tile/1/x001/x234/067.p/8")
	f.Fuzz(func(t *testing.T, path string) {
		if logtiles.IsPath(path) && (slices.Contains([]byte(path), 0) || len(path) > 64) {
			t.Errorf("%q passes for a path", path)
		}
	})
}

func TestParseBundleRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		bundle []byte
		width  int
		want   string
	}{
		"one entry more":     {[]byte("\x00\x01a\x00\x01b"), 1, "2 entries, want 1"},
		"one entry less":     {[]byte("\x00\x01a"), 2, "1 entries, want 2"},
		"a length alone":     {[]byte("\x00"), 1, "ends within entry 0"},
		"an entry cut short": {[]byte("\x00\x02a"), 1, "ends within entry 0"},
		"too large":          {make([]byte, logtiles.MaxBundleBytes+1), 1, "at most"},
	} {
		if _, err := logtiles.ParseBundle(c.bundle, c.width); !errors.Is(err, attest.ErrMalformed) || !strings.Contains(fmt.Sprint(err), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A tile that is missing, or of another size, is no tile.
func TestTilesAreWhole(t *testing.T) {
	head, fetch := synthetic(t, 300)
	failing := errors.New("unreachable")
	for name, c := range map[string]struct {
		answer func([]byte) ([]byte, error)
		want   error
	}{
		"missing":   {func([]byte) ([]byte, error) { return nil, failing }, failing},
		"cut short": {func(b []byte) ([]byte, error) { return b[:len(b)-1], nil }, attest.ErrMalformed},
		"longer":    {func(b []byte) ([]byte, error) { return append(slices.Clone(b), 0), nil }, attest.ErrMalformed},
	} {
		broken := func(ctx context.Context, path string) ([]byte, error) {
			b, err := fetch(ctx, path)
			if err != nil {
				return nil, err
			}
			return c.answer(b)
		}
		if _, err := tlog.ProveRecord(300, 7, logtiles.Hashes(t.Context(), broken, head)); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
