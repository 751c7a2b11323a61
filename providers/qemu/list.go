package qemu

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/toolshed-cloud/shed/providers"
	"github.com/toolshed-cloud/shed/providers/qemu/internal/proc"
	"github.com/toolshed-cloud/shed/providers/sdk"
)

// List tells of machines in the order of their ids, and on the last page of
// what is left of others: kept disks and stray processes.
func (p *Provider) List(_ context.Context, installation providers.InstallationID, page string) (providers.Page, error) {
	c, err := p.configured()
	if err != nil {
		return providers.Page{}, err
	}
	if err := sdk.CheckID("installation", installation); err != nil {
		return providers.Page{}, err
	}
	if page != "" {
		if err := sdk.CheckID("page", page); err != nil {
			return providers.Page{}, err
		}
	}
	var out providers.Page
	told := 0
	for _, id := range p.ids() {
		m, ok := p.find(id)
		if string(id) <= page || !ok {
			continue
		}
		if told == sdk.PageSize {
			return out, nil
		}
		resources, ok := m.list(c, installation)
		if !ok {
			continue
		}
		out.Resources = append(out.Resources, resources...)
		out.Next = string(id)
		told++
	}
	out.Next = ""
	leftovers, err := p.leftovers(c, installation)
	if err != nil {
		return providers.Page{}, failure(err, "looking for leftovers")
	}
	out.Resources = append(out.Resources, leftovers...)
	return out, nil
}

func (m *machine) list(c *config, installation providers.InstallationID) ([]providers.Resource, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.record.Installation != installation {
		return nil, false
	}
	return m.resources(c), true
}

// leftovers are the installation's resources that belong to no machine here.
func (p *Provider) leftovers(c *config, installation providers.InstallationID) ([]providers.Resource, error) {
	out, err := c.keptDisks(installation)
	if err != nil {
		return nil, err
	}
	snapshots, err := c.listSnapshots(installation)
	if err != nil {
		return nil, err
	}
	out = append(out, snapshots...)
	running, err := c.scan()
	if err != nil {
		return nil, err
	}
	for _, o := range running {
		if o.installation != installation || p.owns(o) {
			continue
		}
		out = append(out, processResource(o.id, o.machine))
	}
	return out, nil
}

// owns reports whether a machine lists the process as its own.
func (p *Provider) owns(o owned) bool {
	m, ok := p.find(o.machine)
	if !ok {
		return false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return (m.qemu != nil && m.qemu.ID == o.id) || (m.swtpm != nil && m.swtpm.ID == o.id)
}

func (c *config) keptDisks(installation providers.InstallationID) ([]providers.Resource, error) {
	entries, err := os.ReadDir(c.path(keptDir))
	if err != nil {
		return nil, err
	}
	var out []providers.Resource
	for _, entry := range entries {
		dir := c.path(keptDir, entry.Name())
		r, err := readRecord(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if r.Installation != installation {
			continue
		}
		out = append(out, providers.Resource{
			Kind:    providers.ResourceDataDisk,
			ID:      keptDir + "/" + entry.Name(),
			Machine: r.Machine,
			Bytes:   usedBytes(filepath.Join(dir, dataFile)),
		})
	}
	return out, nil
}

// owned is a process of this provider's, by what its command line says.
type owned struct {
	id           proc.ID
	program      string
	machine      providers.MachineID
	installation providers.InstallationID
}

// The programs that machines are made of.
const (
	programQEMU  = "qemu-system-x86_64"
	programARM64 = "qemu-system-aarch64"
	programSWTPM = "swtpm"
)

// tag stands in the command line of everything that is started for a machine.
func (r record) tag() string { return "shed." + string(r.Installation) + "." + string(r.Machine) }

var tagged = regexp.MustCompile(`^shed\.([a-z2-7]{26})\.([a-z2-7]{26})$`)

// scan finds the processes that run on this state directory, whoever started
// them.
func (c *config) scan() ([]owned, error) {
	found, err := proc.Scan(func(args []string) bool {
		_, ok := c.claim(args)
		return ok
	})
	if err != nil {
		return nil, err
	}
	out := make([]owned, 0, len(found))
	for _, f := range found {
		o, _ := c.claim(f.Args)
		o.id = f.ID
		out = append(out, o)
	}
	return out, nil
}

// claim reads from a command line whose process it is.
func (c *config) claim(args []string) (owned, bool) {
	o := owned{program: filepath.Base(args[0])}
	if o.program == programARM64 {
		o.program = programQEMU
	}
	if o.program != programQEMU && o.program != programSWTPM {
		return owned{}, false
	}
	here := false
	for _, arg := range args[1:] {
		here = here || strings.Contains(arg, "="+c.path(machinesDir)+"/")
		_, prefix, _ := strings.Cut(arg, "prefix=")
		for _, candidate := range []string{arg, prefix} {
			if ids := tagged.FindStringSubmatch(candidate); ids != nil {
				o.installation, o.machine = providers.InstallationID(ids[1]), providers.MachineID(ids[2])
			}
		}
	}
	return o, here && o.machine != ""
}
