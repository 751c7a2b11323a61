// Package powercut makes disks as a power cut leaves them, out of what QEMU
// wrote down of a machine's writes and flushes.
//
// Invariants: what a flush had covered is on every disk that is made; what came
// after it may be there, missing, torn or out of order; the same seed makes the
// same disk.
package powercut

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// The log of dm-log-writes, which QEMU's blklogwrites writes too
// (Documentation/admin-guide/device-mapper/log-writes.rst of the kernel).
const (
	logMagic   = 0x6a736677736872
	logVersion = 1
	flagFlush  = 1 << 0
	flagFUA    = 1 << 1
	flagNoData = 1<<2 | 1<<3 // discards and marks
	// maxEntries and maxWrite bound what a log may say.
	maxEntries = 1 << 20
	maxWrite   = 64 << 20
)

// Entry is a write, a flush, or both: the flush comes first.
type Entry struct {
	Flush, FUA bool
	// At is the place on the disk, Bytes how much was written and Data where the
	// log has it, all in bytes.
	At, Bytes, Data int64
}

// Log is what was written, in the order in which it was done.
type Log struct {
	Entries []Entry
	from    io.ReaderAt
}

// ErrLog says that a log is not one.
var ErrLog = errors.New("not a log of writes")

// ReadLog reads where everything is; the data stays where it is. The errors are
// ErrLog and those of reading.
func ReadLog(from io.ReaderAt) (*Log, error) {
	var head [28]byte
	if _, err := from.ReadAt(head[:], 0); err != nil {
		return nil, fmt.Errorf("reading the log: %w", err)
	}
	order := binary.LittleEndian
	if magic, version := order.Uint64(head[0:]), order.Uint64(head[8:]); magic != logMagic || version != logVersion {
		return nil, fmt.Errorf("%w: magic %#x, version %d", ErrLog, magic, version)
	}
	entries, sector := order.Uint64(head[16:]), int64(order.Uint32(head[24:]))
	if entries > maxEntries || sector < 512 || sector > 4096 {
		return nil, fmt.Errorf("%w: %d entries, sectors of %d bytes", ErrLog, entries, sector)
	}
	l := &Log{from: from}
	place := sector
	for i := range entries {
		e, err := l.entry(place, sector)
		if err != nil {
			return nil, fmt.Errorf("entry %d of the log: %w", i, err)
		}
		place = e.Data + e.Bytes
		l.Entries = append(l.Entries, e)
	}
	return l, nil
}

func (l *Log) entry(place, sector int64) (Entry, error) {
	var b [24]byte
	if _, err := l.from.ReadAt(b[:], place); err != nil {
		return Entry{}, err
	}
	order := binary.LittleEndian
	first, count, flags := order.Uint64(b[0:]), order.Uint64(b[8:]), order.Uint64(b[16:])
	if count > maxWrite/uint64(sector) || first > 1<<40 {
		return Entry{}, fmt.Errorf("%w: %d sectors at %d", ErrLog, count, first)
	}
	e := Entry{
		Flush: flags&flagFlush != 0, FUA: flags&flagFUA != 0,
		At: int64(first) * sector, Bytes: int64(count) * sector, Data: place + sector,
	}
	if flags&flagNoData != 0 {
		e.Bytes = 0
	}
	return e, nil
}

// Read is what an entry wrote.
func (l *Log) Read(e Entry) ([]byte, error) {
	b := make([]byte, e.Bytes)
	if _, err := l.from.ReadAt(b, e.Data); err != nil {
		return nil, fmt.Errorf("reading a write: %w", err)
	}
	return b, nil
}
