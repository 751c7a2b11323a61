package swtpmtest

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A TPM that answers nothing ends with its test too.
func TestPowerOffOfOneThatHangs(t *testing.T) {
	m := Start(t)
	process := m.process
	if err := process.Process.Signal(unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	m.powerOff(time.Millisecond)
	if process.ProcessState == nil {
		t.Error("it runs on")
	}
}
