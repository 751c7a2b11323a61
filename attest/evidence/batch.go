package evidence

import (
	"fmt"

	"github.com/toolshed-cloud/shed/attest"
)

// Tree is the Merkle tree of a batch of leaves, as one quote signs it.
type Tree struct {
	// levels are the leaves first, the root last.
	levels [][]attest.Digest
}

// NewTree builds the tree over at least one leaf. A node without a sibling
// moves up unchanged: duplicating it would let two trees share a root.
func NewTree(leaves []attest.Digest) Tree {
	t := Tree{levels: [][]attest.Digest{leaves}}
	for level := leaves; len(level) > 1; {
		next := make([]attest.Digest, 0, (len(level)+1)/2)
		for i := 0; i+1 < len(level); i += 2 {
			next = append(next, attest.Node(level[i], level[i+1]))
		}
		if len(level)%2 == 1 {
			next = append(next, level[len(level)-1])
		}
		t.levels = append(t.levels, next)
		level = next
	}
	return t
}

// Root is what the quote signs, with the number of leaves.
func (t Tree) Root() attest.Digest { return t.levels[len(t.levels)-1][0] }

// Count is the number of leaves.
func (t Tree) Count() uint32 { return uint32(len(t.levels[0])) }

// Place is where the leaf of an index stands.
func (t Tree) Place(index uint32) Batch {
	b := Batch{Count: t.Count(), Index: index, Path: make([]attest.Digest, 0, len(t.levels)-1)}
	for _, level := range t.levels[:len(t.levels)-1] {
		if sibling := int(index ^ 1); sibling < len(level) {
			b.Path = append(b.Path, level[sibling])
		}
		index /= 2
	}
	return b
}

// Root folds a leaf up the batch's path. A node without a sibling moves up
// unchanged: duplicating it would let two trees share a root. Errors are
// attest.ErrMalformed.
func (b Batch) Root(leaf attest.Digest) (attest.Digest, error) {
	if b.Count == 0 || b.Index >= b.Count || b.Count > 1<<MaxPath {
		return attest.Digest{}, fmt.Errorf("%w: batch index %d of %d", attest.ErrMalformed, b.Index, b.Count)
	}
	node, path := leaf, b.Path
	for index, width := b.Index, b.Count; width > 1; index, width = index/2, (width+1)/2 {
		if index%2 == 0 && index+1 == width {
			continue
		}
		if len(path) == 0 {
			return attest.Digest{}, fmt.Errorf("%w: batch path is too short", attest.ErrMalformed)
		}
		if index%2 == 0 {
			node = attest.Node(node, path[0])
		} else {
			node = attest.Node(path[0], node)
		}
		path = path[1:]
	}
	if len(path) != 0 {
		return attest.Digest{}, fmt.Errorf("%w: batch path has %d nodes too many", attest.ErrMalformed, len(path))
	}
	return node, nil
}
