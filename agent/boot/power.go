package boot

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// An input event of a 64-bit kernel: two words of time, then type, code and
// value (include/uapi/linux/input.h).
const (
	inputEventBytes = 24
	eventKey        = 1
	keyPower        = 116
)

// ErrNoButton says that the machine has no power button.
var ErrNoButton = errors.New("no power button")

// PowerButton returns once the machine's ACPI power button is pressed, or with
// ctx's error.
func PowerButton(ctx context.Context) error {
	buttons, err := findButtons()
	if err != nil {
		return err
	}
	pressed := make(chan error, len(buttons))
	for _, button := range buttons {
		defer button.Close()
		go func() { pressed <- waitForKey(button) }()
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case err := <-pressed:
		return err
	}
}

func findButtons() ([]*os.File, error) {
	names, err := filepath.Glob("/sys/class/input/event*/device/name")
	if err != nil {
		return nil, fmt.Errorf("looking for power button: %w", err)
	}
	var buttons []*os.File
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil || string(bytes.TrimSpace(b)) != "Power Button" {
			continue
		}
		event := filepath.Base(filepath.Dir(filepath.Dir(name)))
		f, err := os.Open(filepath.Join("/dev/input", event))
		if err != nil {
			return nil, fmt.Errorf("opening power button: %w", err)
		}
		buttons = append(buttons, f)
	}
	if len(buttons) == 0 {
		return nil, ErrNoButton
	}
	return buttons, nil
}

func waitForKey(f *os.File) error {
	b := make([]byte, 64*inputEventBytes)
	for {
		n, err := f.Read(b)
		if err != nil {
			return fmt.Errorf("reading power button: %w", err)
		}
		if hasPowerPress(b[:n]) {
			return nil
		}
	}
}

func hasPowerPress(events []byte) bool {
	order := binary.LittleEndian
	for ; len(events) >= inputEventBytes; events = events[inputEventBytes:] {
		if order.Uint16(events[16:]) == eventKey && order.Uint16(events[18:]) == keyPower && order.Uint32(events[20:]) == 1 {
			return true
		}
	}
	return false
}
