package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// part is a subtest that the world belongs to while it runs. What comes after
// one that failed would fail for its reasons.
func (w *world) part(name string, f func()) {
	whole := w.t
	ok := whole.Run(name, func(t *testing.T) {
		w.t = t
		defer func() { w.t = whole }()
		f()
	})
	if !ok {
		whole.FailNow()
	}
}

// startWith brings the control plane up with these variables and no others.
func (w *world) startWith(env ...string) {
	w.t.Helper()
	w.env = env
	w.start()
}

// message is a webhook as its sender keeps it to send it again.
type message struct{ id, kind, user, at string }

// newMessage is about now.
func newMessage(kind, user string) message {
	now := time.Now().UTC().Format(time.RFC3339Nano)
	return message{id: "msg_" + user + "_" + now, kind: kind, user: user, at: now}
}

// another is the same event under an id of its own.
func (m message) another() message {
	m.id += "_again"
	return m
}

// send posts a webhook and answers what became of it.
func (w *world) send(m message) (result string, err error) {
	w.t.Helper()
	var outcome struct {
		Result string `json:"result"`
	}
	err = w.place.shed(w.t.Context(), &outcome, "webhook", "send",
		"--type", m.kind, "--user", m.user, "--id", m.id, "--timestamp", m.at)
	return outcome.Result, err
}

// sends fails the test unless a webhook has that result.
func (w *world) sends(m message, want string) {
	w.t.Helper()
	got, err := w.send(m)
	w.must(err)
	if got != want {
		w.t.Errorf("webhook %s of %s: result %q, want %q", m.id, m.kind, got, want)
	}
}

// within asks until done, and fails the test after a while.
func (w *world) within(limit time.Duration, what string, done func() bool) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), limit)
	defer cancel()
	if err := poll(ctx, 20*time.Millisecond, func() (bool, error) { return done(), nil }); err != nil {
		w.t.Fatalf("%s: %v", what, err)
	}
}

// killed waits until the control plane has died of SIGKILL and nothing else.
func (w *world) killed() {
	w.t.Helper()
	w.within(2*time.Minute, "waiting for the control plane to be killed", func() bool {
		select {
		case <-w.control.ended:
			return true
		default:
			return false
		}
	})
	status, ok := w.control.cmd.ProcessState.Sys().(syscall.WaitStatus)
	if !ok || !status.Signaled() || status.Signal() != syscall.SIGKILL {
		w.t.Fatalf("the control plane ended by itself: %s", w.control.cmd.ProcessState)
	}
	w.control = nil
}

// kill ends the control plane without a word.
func (w *world) kill() {
	w.t.Helper()
	w.must(w.control.cmd.Process.Kill())
	w.killed()
}

// plugin is the provider plugin of the running control plane, 0 while it has
// none: a child, for nothing in its command line says whose it is.
func (w *world) plugin() int {
	w.t.Helper()
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", w.control.cmd.Process.Pid))
	w.must(err)
	for _, list := range lists {
		children, err := os.ReadFile(list)
		if err != nil {
			continue // the thread has ended
		}
		for _, child := range strings.Fields(string(children)) {
			line, err := os.ReadFile(filepath.Join("/proc", child, "cmdline"))
			name, _, _ := bytes.Cut(line, []byte{0})
			pid, numberErr := strconv.Atoi(child)
			if err == nil && numberErr == nil && filepath.Base(string(name)) == "shed-provider-qemu" {
				return pid
			}
		}
	}
	return 0
}

// pluginReplaced waits until another process is the plugin.
func (w *world) pluginReplaced(before int) {
	w.t.Helper()
	w.within(2*time.Minute, "waiting for the plugin to be killed and started again", func() bool {
		now := w.plugin()
		return now != 0 && now != before
	})
}

// signalPlugin stops it, has it go on, or kills it.
func (w *world) signalPlugin(pid int, s syscall.Signal) {
	w.t.Helper()
	if pid == 0 {
		w.t.Fatal("there is no plugin")
	}
	w.must(syscall.Kill(pid, s))
}

// machines are the directories of this world's machines.
func (w *world) machines() []string {
	w.t.Helper()
	found, err := filepath.Glob(filepath.Join(w.place.provider(), "machines", "*"))
	w.must(err)
	return found
}

// running answers the processes of the one machine that there is, and fails
// the test where there are others or fewer.
func (w *world) running() (qemu, swtpm int) {
	w.t.Helper()
	qemus, swtpms, dirs := w.processes("qemu-system-x86_64"), w.processes("swtpm"), w.machines()
	if len(qemus) != 1 || len(swtpms) != 1 || len(dirs) != 1 {
		w.t.Fatalf("there are %d machines, QEMU runs as %v and swtpm as %v; want one of each", len(dirs), qemus, swtpms)
	}
	return qemus[0], swtpms[0]
}

// boots waits until the one machine's firmware has written something.
func (w *world) boots() {
	w.t.Helper()
	w.within(time.Minute, "waiting for the machine to boot", func() bool {
		consoles, err := filepath.Glob(filepath.Join(w.place.provider(), "machines", "*", "console.log"))
		w.must(err)
		if len(consoles) != 1 {
			return false
		}
		info, err := os.Stat(consoles[0])
		return err == nil && info.Size() > 0
	})
}

// remove deletes an instance, as an operator.
func (w *world) remove(i instance) {
	w.t.Helper()
	w.must(w.place.shed(w.t.Context(), nil, "instance", "delete", "--wait", i.ID))
}

// leave deletes a user's instance, as a signup system, and waits until it is
// gone.
func (w *world) leave(i instance) {
	w.t.Helper()
	w.sends(newMessage("user.deleted", i.UserID), "deleting")
	w.gone(i)
}

// gone waits until an instance is deleted, whoever asked for that.
func (w *world) gone(i instance) {
	w.t.Helper()
	w.must(w.place.shed(w.t.Context(), nil, "instance", "wait", "--for", "deleted", i.ID))
}

// nothing fails the test where any trace is left that costs: a process, a
// file, a socket or a row.
func (w *world) nothing() {
	w.t.Helper()
	w.nothingLeft()
	for _, pattern := range []string{w.place.provider() + "/kept/*", w.place.provider() + "/tmp/*", w.place.runtime + "/*.qmp"} {
		left, err := filepath.Glob(pattern)
		w.must(err)
		if len(left) > 0 {
			w.t.Errorf("left at the provider: %v", left)
		}
	}
	all, err := w.place.instances(w.t.Context())
	w.must(err)
	if len(all) > 0 {
		w.t.Errorf("instances are left: %+v", all)
	}
}
