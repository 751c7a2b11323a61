package powercut

import (
	"fmt"
	"io"
	"math/rand/v2"
)

// Loss is what happens to writes that no flush had covered.
type Loss int

// The losses.
const (
	// Kept: everything reached the disk.
	Kept Loss = iota
	// Dropped: all of it is gone.
	Dropped
	// Some: each write is there or not.
	Some
	// Torn: each sector of each write is there or not.
	Torn
	// Reordered: some writes are there, and an older one may lie over a newer.
	Reordered
	losses
)

var lossNames = [losses]string{"kept", "dropped", "some", "torn", "reordered"}

func (l Loss) String() string { return lossNames[l] }

// tornBytes is what a disk writes whole.
const tornBytes = 512

// Cut is one power cut: before the entry Before was done.
type Cut struct {
	Before int
	Loss   Loss
	Seed   uint64
}

func (c Cut) String() string {
	return fmt.Sprintf("before entry %d, what was not flushed %s (seed %d)", c.Before, c.Loss, c.Seed)
}

// Cuts spreads so many cuts over the entries from first on, each with the next
// loss.
func Cuts(l *Log, first, count int, seed uint64) []Cut {
	random := rand.New(rand.NewPCG(seed, 0))
	cuts := make([]Cut, 0, count)
	span := len(l.Entries) - first
	for i := range count {
		low, high := span*i/count, span*(i+1)/count
		cuts = append(cuts, Cut{Before: first + low + random.IntN(max(high-low, 1)), Loss: Loss(i) % losses, Seed: random.Uint64()})
	}
	return cuts
}

// Durable is the number of entries that the last flush before a cut covers.
func (l *Log) Durable(before int) int {
	for i := before - 1; i >= 0; i-- {
		if l.Entries[i].Flush {
			return i
		}
	}
	return 0
}

// Make writes the disk that a cut leaves, onto one of zeros. Errors are those of
// reading the log and of writing.
func (l *Log) Make(c Cut, disk io.WriterAt) error {
	durable := l.Durable(c.Before)
	if err := l.Apply(0, durable, disk); err != nil {
		return err
	}
	random := rand.New(rand.NewPCG(c.Seed, 1))
	open := make([]int, 0, c.Before-durable)
	for i := durable; i < c.Before; i++ {
		open = append(open, i)
	}
	if c.Loss == Reordered {
		random.Shuffle(len(open), func(i, j int) { open[i], open[j] = open[j], open[i] })
	}
	for _, i := range open {
		if err := l.lose(l.Entries[i], c.Loss, random, disk); err != nil {
			return err
		}
	}
	return nil
}

// Apply writes the entries from first up to end as they were.
func (l *Log) Apply(first, end int, disk io.WriterAt) error {
	for _, e := range l.Entries[first:end] {
		if err := l.lose(e, Kept, nil, disk); err != nil {
			return err
		}
	}
	return nil
}

// lose writes what reaches the disk of a write; one with FUA reaches it whole.
func (l *Log) lose(e Entry, loss Loss, random *rand.Rand, disk io.WriterAt) error {
	if e.Bytes == 0 {
		return nil
	}
	if e.FUA {
		loss = Kept
	}
	if loss == Dropped || (loss == Some || loss == Reordered) && random.IntN(2) == 0 {
		return nil
	}
	b, err := l.Read(e)
	if err != nil {
		return err
	}
	if loss != Torn {
		_, err := disk.WriteAt(b, e.At)
		return err
	}
	for at := 0; at < len(b); at += tornBytes {
		if random.IntN(2) == 0 {
			continue
		}
		if _, err := disk.WriteAt(b[at:min(at+tornBytes, len(b))], e.At+int64(at)); err != nil {
			return err
		}
	}
	return nil
}
