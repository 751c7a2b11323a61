package disk_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"slices"
	"sync"
	"testing"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/providers/aws/disk"
)

// sparse is a disk of n blocks and a bit, of which every third is not zeros.
func sparse(n int) []byte {
	b := make([]byte, n*disk.BlockBytes+100)
	for i := 0; i < n; i += 3 {
		b[i*disk.BlockBytes+7] = byte(i + 1)
	}
	b[len(b)-1] = 1
	return b
}

func scan(t *testing.T, b []byte) disk.Plan {
	t.Helper()
	p, err := disk.Scan(t.Context(), bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestScanKnowsWhatIsNotZeros(t *testing.T) {
	b := sparse(10)
	p := scan(t, b)
	var got []int32
	for _, block := range p.Blocks {
		got = append(got, block.Index)
	}
	if want := []int32{0, 3, 6, 9, 10}; !slices.Equal(got, want) || p.Sum != attest.Sum(b) || p.Bytes != int64(len(b)) {
		t.Errorf("blocks %d of %d bytes", got, p.Bytes)
	}
}

func TestChecksumIsOfTheDigestsInOrder(t *testing.T) {
	h := sha256.New()
	b := append(sparse(4), make([]byte, disk.BlockBytes-100)...)
	for _, i := range []int{0, 3, 4} {
		sum := sha256.Sum256(b[i*disk.BlockBytes : (i+1)*disk.BlockBytes])
		h.Write(sum[:])
	}
	if got := scan(t, b).Checksum(); got != [32]byte(h.Sum(nil)) {
		t.Error("it is another")
	}
}

// collect puts into a map.
func collect(into map[int32][]byte) func(context.Context, disk.Block, []byte) error {
	var mu sync.Mutex
	return func(_ context.Context, b disk.Block, data []byte) error {
		mu.Lock()
		defer mu.Unlock()
		into[b.Index] = bytes.Clone(data)
		return nil
	}
}

func TestPutPutsTheDisk(t *testing.T) {
	b := sparse(50)
	p := scan(t, b)
	got, last := map[int32][]byte{}, 0
	err := p.Put(t.Context(), bytes.NewReader(b), 0, collect(got), func(first int) error {
		if first < last {
			t.Errorf("progress went from %d to %d", last, first)
		}
		last = first
		return nil
	})
	if err != nil || last != len(p.Blocks) || len(got) != len(p.Blocks) {
		t.Fatalf("%d blocks, progress %d: %v", len(got), last, err)
	}
	whole := make([]byte, len(b)+disk.BlockBytes)
	for i, data := range got {
		copy(whole[int64(i)*disk.BlockBytes:], data)
	}
	if !bytes.Equal(whole[:len(b)], b) {
		t.Error("the blocks are not the disk")
	}
}

func TestPutGoesOnWhereItWas(t *testing.T) {
	b := sparse(30)
	p := scan(t, b)
	got := map[int32][]byte{}
	if err := p.Put(t.Context(), bytes.NewReader(b), 4, collect(got), func(int) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if len(got) != len(p.Blocks)-4 || got[p.Blocks[3].Index] != nil {
		t.Errorf("%d blocks", len(got))
	}
}

func TestPutRefusesADiskThatChanges(t *testing.T) {
	b := sparse(10)
	p := scan(t, b)
	b[3*disk.BlockBytes] ^= 1
	got := map[int32][]byte{}
	if err := p.Put(t.Context(), bytes.NewReader(b), 0, collect(got), func(int) error { return nil }); !errors.Is(err, disk.ErrChanged) {
		t.Errorf("got %v", err)
	}
	if got[3] != nil {
		t.Error("the block that changed was put")
	}
}

func TestPutEndsWithTheFirstFailure(t *testing.T) {
	b := sparse(10)
	wrong := errors.New("wrong")
	err := scan(t, b).Put(t.Context(), bytes.NewReader(b), 0,
		func(context.Context, disk.Block, []byte) error { return wrong }, func(int) error { return nil })
	if !errors.Is(err, wrong) {
		t.Errorf("got %v", err)
	}
}

func TestScanEndsWithItsCaller(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := disk.Scan(ctx, io.LimitReader(bytes.NewReader(sparse(4)), 1<<30)); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
