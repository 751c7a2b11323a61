// Package qcow2 writes disks in QEMU's format.
//
// Invariants: the same disk gives the same bytes; clusters of zeros take no
// room; nothing in the file refers to another file.
//
// The format is version 3 as QEMU's docs/interop/qcow2.txt has it, without
// optional features.
package qcow2

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// The layout: clusters of 64 KiB, so that a table of one cluster says where
// 8192 others are, and a block of one counts the references to 32768.
const (
	clusterBits   = 16
	cluster       = 1 << clusterBits
	entries       = cluster / 8
	counts        = cluster / 2
	headerLength  = 104
	magic         = 0x514649fb
	version       = 3
	refcountOrder = 4
	// copied says of a cluster that nothing else refers to it.
	copied = 1 << 63
)

// MaxBytes is the largest disk that is written.
const MaxBytes = 1 << 40

// ErrSize says that a disk cannot be written.
var ErrSize = errors.New("unusable size of a disk")

// layout is where everything stands, in clusters.
type layout struct {
	size                              int64
	data                              []int64
	refTable, refTables, refBlocks    int64
	l1, l1s, l2, l2s, first, clusters int64
}

// Write reads a disk of a size and writes it as qcow2. progress, where not nil,
// hears how much of the disk is done.
func Write(w io.Writer, disk io.ReaderAt, size int64, progress func(done int64)) error {
	if size <= 0 || size > MaxBytes || size%512 != 0 {
		return fmt.Errorf("%w: %d bytes, want sectors and at most %d", ErrSize, size, int64(MaxBytes))
	}
	l := layout{size: size}
	var err error
	if l.data, err = used(disk, size); err != nil {
		return err
	}
	l.place()
	for _, part := range [][]byte{l.header(), l.refcounts(), l.tables()} {
		if _, err := w.Write(part); err != nil {
			return fmt.Errorf("writing qcow2: %w", err)
		}
	}
	buffer := make([]byte, cluster)
	for _, at := range l.data {
		if err := read(disk, buffer, at, size); err != nil {
			return err
		}
		if _, err := w.Write(buffer); err != nil {
			return fmt.Errorf("writing qcow2: %w", err)
		}
		if progress != nil {
			progress((at + 1) * cluster)
		}
	}
	if progress != nil {
		progress(size)
	}
	return nil
}

// used are the clusters of the disk that are not all zeros.
func used(disk io.ReaderAt, size int64) (data []int64, err error) {
	buffer, zeros := make([]byte, cluster), make([]byte, cluster)
	for at := range (size + cluster - 1) / cluster {
		if err := read(disk, buffer, at, size); err != nil {
			return nil, err
		}
		if !bytes.Equal(buffer, zeros) {
			data = append(data, at)
		}
	}
	return data, nil
}

// read fills a cluster of the disk, with zeros behind its end.
func read(disk io.ReaderAt, buffer []byte, at, size int64) error {
	n := min(int64(cluster), size-at*cluster)
	clear(buffer[n:])
	if got, err := disk.ReadAt(buffer[:n], at*cluster); int64(got) < n {
		return fmt.Errorf("reading the disk at %d: %w", at*cluster, err)
	}
	return nil
}

func (l *layout) place() {
	all := (l.size + cluster - 1) / cluster
	l.l2s = (all + entries - 1) / entries
	l.l1s = (l.l2s*8 + cluster - 1) / cluster
	l.refTable, l.refTables = 1, 1
	// The blocks that count references are counted too.
	for l.refBlocks = 1; ; l.refBlocks++ {
		l.clusters = 1 + l.refTables + l.refBlocks + l.l1s + l.l2s + int64(len(l.data))
		if l.refBlocks*counts >= l.clusters {
			break
		}
	}
	l.refTables = (l.refBlocks*8 + cluster - 1) / cluster
	l.l1 = l.refTable + l.refTables + l.refBlocks
	l.l2 = l.l1 + l.l1s
	l.first = l.l2 + l.l2s
	l.clusters = l.first + int64(len(l.data))
}

func (l *layout) header() []byte {
	b := binary.BigEndian.AppendUint32(nil, magic)
	b = binary.BigEndian.AppendUint32(b, version)
	b = binary.BigEndian.AppendUint64(b, 0)
	b = binary.BigEndian.AppendUint32(b, 0)
	b = binary.BigEndian.AppendUint32(b, clusterBits)
	b = binary.BigEndian.AppendUint64(b, uint64(l.size))
	b = binary.BigEndian.AppendUint32(b, 0)
	b = binary.BigEndian.AppendUint32(b, uint32(l.l2s))
	b = binary.BigEndian.AppendUint64(b, uint64(l.l1*cluster))
	b = binary.BigEndian.AppendUint64(b, uint64(l.refTable*cluster))
	b = binary.BigEndian.AppendUint32(b, uint32(l.refTables))
	// No snapshots, no features.
	b = append(b, make([]byte, 4+8+3*8)...)
	b = binary.BigEndian.AppendUint32(b, refcountOrder)
	b = binary.BigEndian.AppendUint32(b, headerLength)
	return append(b, make([]byte, cluster-len(b))...)
}

// refcounts are the table and the blocks: each cluster has one reference.
func (l *layout) refcounts() []byte {
	b := make([]byte, (l.refTables+l.refBlocks)*cluster)
	for i := range l.refBlocks {
		binary.BigEndian.PutUint64(b[i*8:], uint64((l.refTable+l.refTables+i)*cluster))
	}
	blocks := b[l.refTables*cluster:]
	for i := range l.clusters {
		binary.BigEndian.PutUint16(blocks[i*2:], 1)
	}
	return b
}

// tables are the two levels that say where the disk's clusters are.
func (l *layout) tables() []byte {
	b := make([]byte, (l.l1s+l.l2s)*cluster)
	for i := range l.l2s {
		binary.BigEndian.PutUint64(b[i*8:], uint64((l.l2+i)*cluster)|copied)
	}
	second := b[l.l1s*cluster:]
	for i, at := range l.data {
		binary.BigEndian.PutUint64(second[at*8:], uint64((l.first+int64(i))*cluster)|copied)
	}
	return b
}
