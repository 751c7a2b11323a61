package main

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/toolshed-cloud/shed/agent/boot"
	"github.com/toolshed-cloud/shed/scripts/powercut"
	"github.com/toolshed-cloud/shed/toolshed/store"
)

// check looks at the disks that stand one after another on the one that there
// is, each on its own.
func check(ctx context.Context, count int) error {
	whole, err := os.OpenFile(disk, os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer whole.Close() //nolint:errcheck // it was only read
	size, err := whole.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	each := size / int64(count)
	for i := range count {
		if err := part(whole, blkpgAdd, int64(i)*each, each); err != nil {
			return err
		}
		acknowledged, err := checkDisk(ctx, disk+"1")
		fmt.Printf("DISK %d acknowledged %d: %v\n", i, acknowledged, err)
		if err := errors.Join(mountPoint().Unmount(), volume().Unmap(), part(whole, blkpgDelete, 0, 0)); err != nil {
			return fmt.Errorf("putting disk %d away: %w", i, err)
		}
	}
	return nil
}

// checkDisk mounts a volume and compares all that was acknowledged.
func checkDisk(ctx context.Context, disk string) (acknowledged int, err error) {
	f, err := os.Open(disk)
	if err != nil {
		return 0, err
	}
	sector := make([]byte, powercut.AckBytes)
	_, err = f.ReadAt(sector, 0)
	if err := errors.Join(err, f.Close()); err != nil {
		return 0, err
	}
	if acknowledged, err = powercut.Ack(sector); err != nil {
		return 0, err
	}
	path, err := volume().Map(disk, testKey)
	if err != nil {
		return acknowledged, err
	}
	if err := mountPoint().Device(path, boot.UseSettled); err != nil {
		return acknowledged, err
	}
	dir, db, err := open(ctx)
	if err != nil {
		return acknowledged, err
	}
	err = db.View(ctx, func(tx *store.Tx) error { return compare(tx, acknowledged) })
	return acknowledged, errors.Join(err, db.Close(), dir.Close())
}

func compare(tx *store.Tx, acknowledged int) error {
	var verdict string
	if err := tx.QueryRow("PRAGMA integrity_check").Scan(&verdict); err != nil || verdict != "ok" {
		return fmt.Errorf("the database is not whole: %s, %w", verdict, err)
	}
	for n := range acknowledged {
		var content []byte
		var err error
		if powercut.IsFile(n) {
			content, err = os.ReadFile(data + "/toolshed/" + powercut.FileName(n))
		} else {
			err = tx.QueryRow("SELECT content FROM done WHERE n = ?", n).Scan(&content)
		}
		if errors.Is(err, sql.ErrNoRows) || errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("number %d was acknowledged and is not there", n)
		}
		if err != nil {
			return fmt.Errorf("number %d: %w", n, err)
		}
		if !bytes.Equal(content, powercut.Content(n)) {
			return fmt.Errorf("number %d was acknowledged and is another", n)
		}
	}
	return nil
}

// BLKPG and what it is asked for (include/uapi/linux/blkpg.h).
const (
	blkpg       = 0x1269
	blkpgAdd    = 1
	blkpgDelete = 2
)

// part makes a partition of the disk, or forgets it: the kernel's alone, nothing
// on the disk says so.
func part(disk *os.File, operation int32, start, length int64) error {
	type partition struct {
		start, length int64
		number        int32
		names         [128]byte
	}
	type argument struct {
		operation, flags, bytes int32
		data                    unsafe.Pointer
	}
	p := partition{start: start, length: length, number: 1}
	a := argument{operation: operation, bytes: int32(unsafe.Sizeof(p)), data: unsafe.Pointer(&p)}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, disk.Fd(), blkpg, uintptr(unsafe.Pointer(&a))); errno != 0 {
		return fmt.Errorf("partition at %d: %w", start, errno)
	}
	return nil
}
