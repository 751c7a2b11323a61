// Package disk turns a raw disk into the blocks that EBS direct takes.
//
// Invariants: a disk is read whole and its digest known before a block of it is
// put; a block that reads otherwise the second time ends everything; blocks of
// zeros are not put, for they are what a snapshot holds anyway; and progress
// only grows, and says no more than what was put.
package disk

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/toolshed-cloud/shed/attest"
)

// BlockBytes is the size of a block of EBS direct.
const BlockBytes = 512 << 10

// ErrChanged says that a disk reads otherwise than before.
var ErrChanged = errors.New("the disk changes while it is read")

// Block is one that is not all zeros.
type Block struct {
	Index int32
	// Sum is what EBS is told that the block has to be, and checks.
	Sum [sha256.Size]byte
	// mark tells a block that was changed before it is sent, and costs next to
	// nothing beside a second Sum.
	mark uint64
}

// Plan is what a disk consists of.
type Plan struct {
	Sum    attest.Digest
	Bytes  int64
	Blocks []Block
	seed   maphash.Seed
}

// Scan reads a disk to its end. A block is hashed for itself while it, and the
// one that follows is read, are hashed for the whole.
func Scan(ctx context.Context, r io.Reader) (Plan, error) {
	p := Plan{seed: maphash.MakeSeed()}
	whole := sha256.New()
	var hashing sync.WaitGroup
	defer hashing.Wait()
	buffers := [2][]byte{make([]byte, BlockBytes), make([]byte, BlockBytes)}
	for index := int32(0); ; index++ {
		if err := ctx.Err(); err != nil {
			return Plan{}, err
		}
		buffer := buffers[index%2]
		n, err := io.ReadFull(r, buffer)
		hashing.Wait()
		clear(buffer[n:])
		if !bytes.Equal(buffer, zeros) {
			hashing.Go(func() {
				p.Blocks = append(p.Blocks, Block{index, sha256.Sum256(buffer), maphash.Bytes(p.seed, buffer)})
			})
		}
		whole.Write(buffer[:n])
		p.Bytes += int64(n)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			hashing.Wait()
			p.Sum = attest.Digest(whole.Sum(nil))
			return p, nil
		}
		if err != nil {
			return Plan{}, fmt.Errorf("reading the disk: %w", err)
		}
	}
}

// zeros is a block of them.
var zeros = make([]byte, BlockBytes)

// Checksum is that of all the blocks: of their digests in order, which EBS calls
// linear.
func (p Plan) Checksum() [sha256.Size]byte {
	h := sha256.New()
	for _, b := range p.Blocks {
		h.Write(b.Sum[:])
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// Workers are how many blocks are put at once.
const Workers = 16

// Put hands every block from the one numbered from to put, several at once. done
// is called with how many of the first blocks were put, one call at a time, when
// they are more than before.
func (p Plan) Put(ctx context.Context, r io.ReaderAt, from int, put func(context.Context, Block, []byte) error, done func(first int) error) error {
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(Workers)
	buffers := sync.Pool{New: func() any { b := make([]byte, BlockBytes); return &b }}
	t := tracker{first: from, put: map[int]bool{}}
	for n := from; n < len(p.Blocks) && gctx.Err() == nil; n++ {
		group.Go(func() error {
			buffer := buffers.Get().(*[]byte)
			defer buffers.Put(buffer)
			if err := p.read(r, p.Blocks[n], *buffer); err != nil {
				return err
			}
			if err := put(gctx, p.Blocks[n], *buffer); err != nil {
				return err
			}
			return t.finished(n, done)
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return ctx.Err()
}

func (p Plan) read(r io.ReaderAt, b Block, into []byte) error {
	at := int64(b.Index) * BlockBytes
	n, err := r.ReadAt(into[:min(BlockBytes, p.Bytes-at)], at)
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("reading the disk: %w", err)
	}
	clear(into[n:])
	if maphash.Bytes(p.seed, into) != b.mark {
		return fmt.Errorf("%w: block %d", ErrChanged, b.Index)
	}
	return nil
}

// tracker knows up to which block all were put.
type tracker struct {
	mu    sync.Mutex
	first int
	put   map[int]bool
}

func (t *tracker) finished(n int, done func(first int) error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.put[n] = true; n != t.first {
		return nil
	}
	for t.put[t.first] {
		delete(t.put, t.first)
		t.first++
	}
	return done(t.first)
}
