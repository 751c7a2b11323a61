package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/toolshed-cloud/shed/agent/boot"
	"github.com/toolshed-cloud/shed/scripts/powercut"
	"github.com/toolshed-cloud/shed/toolshed/store"
)

// record makes a volume and does so many things that are each acknowledged.
func record(ctx context.Context, count int) error {
	path, err := volume().Make(disk, testKey)
	if err != nil {
		return err
	}
	if err := boot.Format(ctx, path); err != nil {
		return err
	}
	if err := mountPoint().Device(path, boot.UseSettled); err != nil {
		return err
	}
	ack, err := openAcknowledgement()
	if err != nil {
		return err
	}
	dir, db, err := open(ctx)
	if err != nil {
		return err
	}
	for n := range count {
		if err := do(ctx, db, n); err != nil {
			return err
		}
		if err := ack.put(n + 1); err != nil {
			return err
		}
	}
	return errors.Join(db.Close(), dir.Close(), mountPoint().Unmount(), volume().Unmap())
}

func open(ctx context.Context) (*store.Directory, *store.DB, error) {
	dir, err := store.OpenDirectory(data + "/toolshed")
	if err != nil {
		return nil, nil, err
	}
	db, err := dir.Open(ctx, store.Schema{Name: "done", Migrations: []store.Migration{
		store.Statements("CREATE TABLE done (n INTEGER PRIMARY KEY, content BLOB NOT NULL)"),
	}})
	return dir, db, err
}

// do does what is acknowledged: a transaction, or a file that takes its name
// once it is whole.
func do(ctx context.Context, db *store.DB, n int) error {
	if powercut.IsFile(n) {
		return writeFile(data+"/toolshed/"+powercut.FileName(n), powercut.Content(n))
	}
	return db.Update(ctx, func(tx *store.Tx) error {
		_, err := tx.Exec("INSERT INTO done VALUES (?, ?)", n, powercut.Content(n))
		return err
	})
}

func writeFile(path string, content []byte) error {
	f, err := os.Create(path + ".part")
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+".part", path); err != nil {
		return err
	}
	d, err := os.Open(data + "/toolshed")
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// acknowledgement is the first sector of the disk, before the volume.
type acknowledgement struct {
	file   *os.File
	sector []byte
}

func openAcknowledgement() (*acknowledgement, error) {
	f, err := os.OpenFile(disk, os.O_WRONLY|unix.O_DIRECT, 0)
	if err != nil {
		return nil, err
	}
	// Memory that is mapped begins at a page, as O_DIRECT wants it.
	page, err := unix.Mmap(-1, 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, fmt.Errorf("memory for a sector: %w", err)
	}
	return &acknowledgement{file: f, sector: unsafe.Slice(&page[0], powercut.AckBytes)}, nil
}

// put writes the number past every cache of the machine's and flushes nothing.
func (a *acknowledgement) put(n int) error {
	powercut.PutAck(a.sector, n)
	_, err := a.file.WriteAt(a.sector, 0)
	return err
}
