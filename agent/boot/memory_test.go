package boot

import (
	"runtime"
	"testing"
)

// What is read grows by what is written to, in whole steps.
func TestResident(t *testing.T) {
	before, err := Resident()
	if err != nil {
		t.Fatal(err)
	}
	const bytes = 64 << 20
	held := make([]byte, bytes)
	for i := 0; i < bytes; i += 4096 {
		held[i] = 1
	}
	after, err := Resident()
	runtime.KeepAlive(held)
	if err != nil || after-before < bytes/2 || after-before > 2*bytes || before%residentStep != 0 || after%residentStep != 0 {
		t.Errorf("%d bytes before, %d after, %v", before, after, err)
	}
}
