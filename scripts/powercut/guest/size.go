package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/toolshed-cloud/shed/agent/boot"
)

const grown = data + "/grown"

// makeVolume does what a claim does to a disk, and leaves a file.
func makeVolume(ctx context.Context) error {
	began := time.Now()
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
	took := time.Since(began)
	if err := os.WriteFile(grown, []byte("here"), 0o600); err != nil {
		return err
	}
	return say("MADE", took)
}

// openVolume does what a boot does, and wants the file.
func openVolume() error {
	began := time.Now()
	path, err := volume().Map(disk, testKey)
	if err != nil {
		return err
	}
	if err := mountPoint().Device(path, boot.UseSettled); err != nil {
		return err
	}
	took := time.Since(began)
	if b, err := os.ReadFile(grown); err != nil || string(b) != "here" {
		return fmt.Errorf("the file is %q, %w", b, err)
	}
	return say("OPENED", took)
}

// say prints how long something took, and how large the volume is in bytes, and
// puts it away.
func say(what string, took time.Duration) error {
	var s unix.Statfs_t
	if err := unix.Statfs(data, &s); err != nil {
		return err
	}
	fmt.Printf("%s %d ms %d bytes\n", what, took.Milliseconds(), int64(s.Blocks)*s.Bsize)
	return errors.Join(mountPoint().Unmount(), volume().Unmap())
}
