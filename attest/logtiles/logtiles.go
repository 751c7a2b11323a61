// Package logtiles reads a transparency log that is served as tiles (C2SP
// tlog-tiles), from wherever the caller fetches them.
//
// Invariants: hashes are checked against the checkpoint's root before they are
// used; an entry bundle is capped before it is taken apart; nothing is fetched
// but what a tree of the checkpoint's size has.
package logtiles

import (
	"context"
	"encoding/binary"
	"fmt"
	"iter"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/checkpoint"
	"github.com/toolshed-cloud/shed/attest/logentry"
)

const (
	// Height is that of a tile.
	Height = 8
	// Width is how many hashes or entries a tile holds.
	Width = 1 << Height
	// CheckpointPath is where the head is.
	CheckpointPath = "checkpoint"
	// MaxBundleBytes caps a bundle of entries.
	MaxBundleBytes = Width * (2 + logentry.MaxBytes)
)

// Fetch reads one of the log's resources by its path.
type Fetch func(ctx context.Context, path string) ([]byte, error)

// TilePath is where a tile of hashes is; width is below Width for one that is
// not full.
func TilePath(level int, index int64, width int) string {
	return fmt.Sprintf("tile/%d/%s", level, number(index, width))
}

// EntriesPath is where a bundle of entries is.
func EntriesPath(index int64, width int) string {
	return "tile/entries/" + number(index, width)
}

// number writes an index in groups of three digits, all but the last marked by
// an x, and a partial width behind it (C2SP tlog-tiles, "Merkle Tree").
func number(index int64, width int) string {
	text := fmt.Sprintf("%03d", index%1000)
	for index /= 1000; index > 0; index /= 1000 {
		text = fmt.Sprintf("x%03d/%s", index%1000, text)
	}
	if width < Width {
		text += fmt.Sprintf(".p/%d", width)
	}
	return text
}

// Hashes reads the hashes of a checkpoint's tree. Errors are fetch's and those
// of hashes that do not lead to the root.
func Hashes(ctx context.Context, fetch Fetch, c checkpoint.Checkpoint) tlog.HashReader {
	return tlog.TileHashReader(tlog.Tree{N: c.Size, Hash: c.Root}, &tiles{ctx: ctx, fetch: fetch})
}

// tiles is as much of a tile reader as package tlog asks for, for the length of
// one call.
type tiles struct {
	ctx   context.Context
	fetch Fetch
}

// Height implements tlog.TileReader.
func (*tiles) Height() int { return Height }

// SaveTiles implements tlog.TileReader: nothing is kept.
func (*tiles) SaveTiles([]tlog.Tile, [][]byte) {}

// ReadTiles implements tlog.TileReader.
func (t *tiles) ReadTiles(wanted []tlog.Tile) ([][]byte, error) {
	out := make([][]byte, len(wanted))
	for n, tile := range wanted {
		b, err := t.fetch(t.ctx, TilePath(tile.L, tile.N, tile.W))
		if err != nil {
			return nil, err
		}
		if len(b) != tile.W*tlog.HashSize {
			return nil, malformed("tile %d of level %d has %d bytes, want %d", tile.N, tile.L, len(b), tile.W*tlog.HashSize)
		}
		out[n] = b
	}
	return out, nil
}

// Entries reads the entries from one index up to a size, in order. Errors are
// fetch's and attest.ErrMalformed. That they are those of the tree is for the
// caller to compare: Tree hashes them.
func Entries(ctx context.Context, fetch Fetch, from, size int64) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for bundle := from / Width; bundle*Width < size; bundle++ {
			width := int(min(size-bundle*Width, Width))
			b, err := fetch(ctx, EntriesPath(bundle, width))
			if err != nil {
				yield(nil, err)
				return
			}
			entries, err := ParseBundle(b, width)
			if err != nil {
				yield(nil, fmt.Errorf("bundle %d: %w", bundle, err))
				return
			}
			for n, entry := range entries {
				if bundle*Width+int64(n) >= from && !yield(entry, nil) {
					return
				}
			}
		}
	}
}

// ParseBundle takes a bundle of so many entries apart: each has its length, a
// big-endian uint16, before it. The error is attest.ErrMalformed.
func ParseBundle(b []byte, width int) ([][]byte, error) {
	if len(b) > MaxBundleBytes {
		return nil, malformed("bundle has %d bytes, at most %d", len(b), MaxBundleBytes)
	}
	entries := make([][]byte, 0, width)
	for len(b) > 0 {
		if len(b) < 2 || len(b)-2 < int(binary.BigEndian.Uint16(b)) {
			return nil, malformed("bundle ends within entry %d", len(entries))
		}
		n := 2 + int(binary.BigEndian.Uint16(b))
		entries, b = append(entries, b[2:n]), b[n:]
	}
	if len(entries) != width {
		return nil, malformed("bundle has %d entries, want %d", len(entries), width)
	}
	return entries, nil
}

// Tree hashes entries into the root of their tree (RFC 6962, section 2.1). The
// zero value is the empty tree.
type Tree struct {
	size int64
	// complete are the roots of the complete subtrees, largest first.
	complete []tlog.Hash
}

// Size is how many entries were added.
func (t *Tree) Size() int64 { return t.size }

// Add adds one entry.
func (t *Tree) Add(entry []byte) {
	h := tlog.RecordHash(entry)
	for n := t.size; n&1 == 1; n >>= 1 {
		last := len(t.complete) - 1
		h, t.complete = tlog.NodeHash(t.complete[last], h), t.complete[:last]
	}
	t.complete = append(t.complete, h)
	t.size++
}

// Root is the tree's root as it stands.
func (t *Tree) Root() tlog.Hash {
	if t.size == 0 {
		return tlog.Hash(attest.Sum(nil))
	}
	h := t.complete[len(t.complete)-1]
	for n := len(t.complete) - 2; n >= 0; n-- {
		h = tlog.NodeHash(t.complete[n], h)
	}
	return h
}

// IsPath reports whether a path is one of a log's: of a tile, a bundle or the
// checkpoint.
func IsPath(path string) bool {
	if path == CheckpointPath {
		return true
	}
	rest, ok := strings.CutPrefix(path, "tile/")
	kind, rest, _ := strings.Cut(rest, "/")
	if !ok || kind != "entries" && !isDecimal(kind, 2) {
		return false
	}
	rest, width, partial := strings.Cut(rest, ".p/")
	if partial && !isDecimal(width, 3) {
		return false
	}
	groups := strings.Split(rest, "/")
	for n, group := range groups {
		if n < len(groups)-1 {
			if group, ok = strings.CutPrefix(group, "x"); !ok {
				return false
			}
		}
		if len(group) != 3 || !isDecimal(group, 3) {
			return false
		}
	}
	return len(groups) <= 6
}

func isDecimal(s string, digits int) bool {
	return s != "" && len(s) <= digits && !strings.ContainsFunc(s, func(r rune) bool { return r < '0' || r > '9' })
}

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: log: %w", attest.ErrMalformed, fmt.Errorf(format, args...))
}
