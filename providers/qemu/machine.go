package qemu

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/toolshed-cloud/shed/providers"
	"github.com/toolshed-cloud/shed/providers/qemu/internal/proc"
)

// machine is what this process knows of one machine besides its record.
type machine struct {
	mu sync.Mutex
	// mu guards the fields below.
	record record
	qemu   *proc.Process
	swtpm  *proc.Process
	// leases is where the machine asks for its address; nil while nobody
	// answers.
	leases io.Closer
	// exit is how QEMU ended, where this process was its parent.
	exit error
	// restarting says that QEMU ends for its guest to start anew, and unheard that
	// it may still say so, also where it has ended by now.
	restarting, unheard bool
	// task is the work under way; at most one runs at a time.
	task *task

	// promised is what the data disk takes of the limit: record.DataBytes, or
	// more while it grows.
	promised atomic.Int64
}

func newMachine(r record) *machine {
	m := &machine{record: r}
	m.promised.Store(r.DataBytes)
	return m
}

// task is one piece of work on a machine in the background.
type task struct {
	doing string
	// aside says that it leaves the machine's power as it is, and that its
	// failure is none of the machine's.
	aside  bool
	cancel context.CancelFunc
	// done is closed when it has ended; err may be read then.
	done chan struct{}
	err  error
}

// alive reports whether QEMU runs.
func (m *machine) alive() bool { return m.qemu != nil && m.qemu.Alive() }

// letGo closes the descriptors of the processes, which go on.
func (m *machine) letGo() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.endLeases()
	for _, p := range []**proc.Process{&m.qemu, &m.swtpm} {
		if *p != nil {
			_ = (*p).Close()
			*p = nil
		}
	}
}

// begin replaces the work on m. The caller holds m.mu. What ran before is told
// to stop and has ended before run begins; run itself holds no lock.
func (p *Provider) begin(c *config, m *machine, doing string, run func(ctx context.Context) error) *task {
	return p.beginTask(c, m, &task{doing: doing}, run)
}

func (p *Provider) beginTask(c *config, m *machine, t *task, run func(ctx context.Context) error) *task {
	ctx, cancel := context.WithCancel(p.life)
	t.cancel, t.done = cancel, make(chan struct{})
	before := m.task
	if before != nil {
		before.cancel()
	}
	m.task = t
	p.work.Go(func() {
		defer close(t.done)
		defer cancel()
		if before != nil {
			<-before.done
		}
		p.finish(c, m, t, run(ctx), ctx.Err() != nil)
	})
	return t
}

// finish puts down how a task ended. One that was told to stop failed at
// nothing: who stopped it goes on.
func (p *Provider) finish(c *config, m *machine, t *task, err error, stopped bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	defer func() { p.changed(m.record) }()
	t.err = err
	if m.task == t {
		m.task = nil
	}
	if err == nil || stopped {
		return
	}
	p.opts.Log.Error(t.doing, zap.String("machine", string(m.record.Machine)), zap.Error(err))
	if t.aside {
		return
	}
	m.record.Failure = t.doing + ": " + err.Error()
	if err := m.record.write(c.machineDir(m.record.Machine)); err != nil {
		p.opts.Log.Error("writing the machine record", zap.Error(err))
	}
}

// power says what m does and, where that is not what was asked for, why. The
// caller holds m.mu.
func (m *machine) power(c *config) (providers.Power, string) {
	r := m.record
	switch alive := m.alive(); {
	case r.Deleting:
		return providers.PowerPending, "deleting"
	case m.busy():
		return providers.PowerPending, m.task.doing
	case alive && r.On && (m.swtpm == nil || !m.swtpm.Alive()):
		return providers.PowerOn, "the machine's TPM has ended"
	case alive && r.On:
		return providers.PowerOn, ""
	case alive:
		return providers.PowerOn, r.Failure
	case !r.On:
		return providers.PowerOff, ""
	case m.restarting:
		return providers.PowerPending, "starting anew"
	case m.unheard:
		return providers.PowerPending, "ending"
	case r.Failure != "":
		return providers.PowerCrashed, r.Failure
	case r.QEMU.Boot != c.boot:
		return providers.PowerCrashed, "the host was started again"
	default:
		return providers.PowerCrashed, m.exitReason(c)
	}
}

// exitReason says how QEMU ended as well as can be known.
func (m *machine) exitReason(c *config) string {
	said, _ := os.ReadFile(filepath.Join(c.machineDir(m.record.Machine), qemuLogFile))
	last := lastLines(said)
	switch {
	case m.exit != nil && last != "":
		return fmt.Sprintf("QEMU ended: %s: %s", m.exit, last)
	case m.exit != nil:
		return fmt.Sprintf("QEMU ended: %s", m.exit)
	case last != "":
		return "QEMU ended: " + last
	}
	if _, err := os.Stat(filepath.Join(c.machineDir(m.record.Machine), pidFile)); err == nil {
		return "QEMU crashed or was killed"
	}
	return "the machine switched itself off"
}

// observe is the machine as the contract shows it. The caller holds m.mu.
func (m *machine) observe(c *config) providers.Machine {
	r := m.record
	power, reason := m.power(c)
	out := providers.Machine{
		ID:           r.Machine,
		Installation: r.Installation,
		SpecHash:     r.SpecHash,
		Release:      r.Release,
		Generation:   r.Generation,
		Region:       region,
		Size:         size,
		Power:        power,
		Endpoint:     r.endpoint(),
		Resources:    m.resources(c),
		CreatedAt:    r.CreatedAt,
		Reason:       reason,
	}
	return out
}

// resources lists what the machine is made of. The caller holds m.mu.
func (m *machine) resources(c *config) []providers.Resource {
	id := m.record.Machine
	dir := c.machineDir(id)
	out := []providers.Resource{{Kind: providers.ResourceMachine, ID: string(id), Machine: id}}
	for _, disk := range []struct {
		kind providers.ResourceKind
		file string
	}{
		{providers.ResourceDisk, systemFile},
		{providers.ResourceDataDisk, dataFile},
	} {
		path := filepath.Join(dir, disk.file)
		if there, err := exists(path); err == nil && there {
			out = append(out, providers.Resource{Kind: disk.kind, ID: string(id) + "/" + disk.file, Machine: id, Bytes: usedBytes(path)})
		}
	}
	if at := m.record.endpoint(); at != "" {
		out = append(out, providers.Resource{Kind: providers.ResourceAddress, ID: at, Machine: id})
	}
	for _, p := range []*proc.Process{m.qemu, m.swtpm} {
		if p != nil && p.Alive() {
			out = append(out, processResource(p.ID, id))
		}
	}
	return out
}

func processResource(id proc.ID, machine providers.MachineID) providers.Resource {
	return providers.Resource{Kind: providers.ResourceProcess, ID: fmt.Sprintf("pid/%d", id.PID), Machine: machine}
}

func endpoint(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }

// findMachines reads the machines of the state directory and finds their
// processes.
func (c *config) findMachines() ([]*machine, error) {
	entries, err := os.ReadDir(c.path(machinesDir))
	if err != nil {
		return nil, err
	}
	running, err := c.scan()
	if err != nil {
		return nil, err
	}
	var out []*machine
	for _, entry := range entries {
		r, err := readRecord(c.path(machinesDir, entry.Name()))
		if err != nil {
			return nil, fmt.Errorf("machine %s: %w", entry.Name(), err)
		}
		m := newMachine(r)
		if err := m.adopt(c, running); err != nil {
			return nil, fmt.Errorf("machine %s: %w", entry.Name(), err)
		}
		out = append(out, m)
	}
	return out, nil
}

// adopt finds the machine's processes, by their record or, where a crash came
// between their start and the record, by their command line.
func (m *machine) adopt(c *config, running []owned) error {
	before := m.record
	for _, o := range running {
		if o.machine != m.record.Machine {
			continue
		}
		switch o.program {
		case programQEMU:
			m.record.QEMU = o.id
		case programSWTPM:
			m.record.SWTPM = o.id
		}
	}
	var err error
	if m.qemu, err = reopen(m.record.QEMU); err != nil {
		return err
	}
	if m.swtpm, err = reopen(m.record.SWTPM); err != nil {
		return err
	}
	m.record.Ran = m.record.Ran || m.alive()
	if m.record == before {
		return nil
	}
	return m.record.write(c.machineDir(m.record.Machine))
}

func reopen(id proc.ID) (*proc.Process, error) {
	p, err := proc.Open(id)
	if errors.Is(err, proc.ErrGone) {
		return nil, nil //nolint:nilnil // no process is a state, not a failure
	}
	return p, err
}

// resume goes on with what a crash of the plugin interrupted. A machine that
// ran and runs no more is left alone: whether to start it is the caller's to
// say. The caller holds m.mu.
func (p *Provider) resume(c *config, m *machine) {
	r := m.record
	switch alive := m.alive(); {
	case r.Deleting:
		p.beginDelete(c, m)
	case !r.On && alive:
		p.beginPowerOff(c, m)
	case r.On && !alive && r.QEMU.IsZero() && r.Failure == "":
		p.beginPowerOn(c, m)
	}
}

// wait answers how a task ended, or ctx's error.
func (t *task) wait(ctx context.Context) error {
	select {
	case <-t.done:
		return t.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func bootID() (string, error) {
	boot, err := proc.BootID()
	return boot, failure(err, "reading the host's boot id")
}

// stopPatience is how long a process that was told to end may take.
const stopPatience = 5 * time.Second
