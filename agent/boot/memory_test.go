package boot

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"
)

// What is read grows by what is written to, in whole steps.
func TestResident(t *testing.T) {
	before, err := Resident()
	if err != nil {
		t.Fatal(err)
	}
	const bytes = 64 << 20
	// Of the heap, some that was given back may be resident still.
	held, err := unix.Mmap(-1, 0, bytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < bytes; i += 4096 {
		held[i] = 1
	}
	after, err := Resident()
	if err := errors.Join(err, unix.Munmap(held)); err != nil || after-before < bytes/2 || after-before > 2*bytes || before%residentStep != 0 || after%residentStep != 0 {
		t.Errorf("%d bytes before, %d after, %v", before, after, err)
	}
}
