package evidence

import (
	"fmt"

	"github.com/toolshed-cloud/shed/attest"
)

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
