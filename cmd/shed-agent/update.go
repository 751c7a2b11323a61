package main

import (
	"os"
	"runtime"
	"sync"

	"github.com/toolshed-cloud/shed/agent/boot"
	"github.com/toolshed-cloud/shed/agent/bootentry"
	"github.com/toolshed-cloud/shed/agent/esp"
	"github.com/toolshed-cloud/shed/agent/payloadroot"
	"github.com/toolshed-cloud/shed/agent/signaturelist"
	"github.com/toolshed-cloud/shed/agent/update"
)

// firmware has the boot variables at hand once they are asked for.
type firmware struct{ mount func() error }

func newFirmware() firmware {
	return firmware{mount: sync.OnceValue(func() error { return boot.MountVariables(modulesPath) })}
}

const variables = bootentry.Variables(bootentry.Root)

func (f firmware) StartOnce(file bootentry.File) error {
	if err := f.mount(); err != nil {
		return err
	}
	return variables.StartOnce(file)
}

func (f firmware) SecureBoot() (bool, error) { return f.ask(variables.SecureBoot) }

func (f firmware) Asked() (bool, error) { return f.ask(variables.Asked) }

func (f firmware) ask(question func() (bool, error)) (bool, error) {
	if err := f.mount(); err != nil {
		return false, err
	}
	return question()
}

func (f firmware) Forget() error {
	if err := f.mount(); err != nil {
		return err
	}
	return variables.Forget()
}

// lists are the firmware's of what it starts, at hand once one is written.
type lists struct{ firmware }

var _ update.Lists = lists{}

func (l lists) Write(variable string, write []byte) error {
	if err := l.mount(); err != nil {
		return err
	}
	return signaturelist.Variables(bootentry.Root).Write(variable, write)
}

// slots are the two images of the disk that this machine boots from.
func slots() (update.Slots, error) {
	running, other, err := update.SlotsOf(runtime.GOARCH)
	if err != nil {
		return update.Slots{}, err
	}
	holds := func(device string) bool {
		f, err := os.Open(device)
		if err != nil {
			return false
		}
		defer f.Close()
		v, err := esp.Open(f)
		if err != nil {
			return false
		}
		_, err = v.Bytes(running)
		return err == nil
	}
	open := func() (update.BootDisk, error) {
		device, err := boot.FindImage(holds)
		if err != nil {
			return nil, err
		}
		return os.OpenFile(device, os.O_RDWR, 0)
	}
	s := update.Slots{Open: open, Running: running, Other: other}
	root, err := payloadroot.OfMachine()
	if err != nil {
		return update.Slots{}, err
	}
	if root != nil {
		s.Payload = root.FileName()
	}
	return s, nil
}
