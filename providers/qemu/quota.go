package qemu

import (
	"errors"
	"io/fs"
	"os"

	"github.com/toolshed-cloud/shed/providers"
)

// promise keeps room for a data disk that grows, before it does. The caller does
// not hold p.mu, nor a machine's lock.
func (p *Provider) promise(c *config, m *machine, bytes int64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	more := bytes - m.promised.Load()
	if more <= 0 {
		return nil
	}
	if err := c.dataRoom(p.promised(), more); err != nil {
		return err
	}
	m.promised.Store(bytes)
	return nil
}

// promised is what the machines' data disks can grow to. The caller holds p.mu.
func (p *Provider) promised() int64 {
	var sum int64
	for _, m := range p.machines {
		sum += m.promised.Load()
	}
	return sum
}

// dataRoom refuses more than the limit leaves beside what is promised to
// machines, kept, and copied in snapshots.
func (c *config) dataRoom(promised, more int64) error {
	if c.DataLimitBytes == 0 {
		return nil
	}
	apart, err := c.dataApart()
	if err != nil {
		return failure(err, "adding up the data disks")
	}
	if left := c.DataLimitBytes - promised - apart; more > left {
		return providers.Errorf(providers.CodeQuota, "%d bytes of data are asked for, and data_limit_bytes leaves %d", more, max(0, left)).In(providers.ScopeAccount)
	}
	return nil
}

// dataApart is the data of no machine: kept disks and snapshots.
func (c *config) dataApart() (int64, error) {
	var sum int64
	for _, dir := range []string{keptDir, snapshotDir} {
		entries, err := os.ReadDir(c.path(dir))
		if err != nil {
			return 0, err
		}
		for _, entry := range entries {
			info, err := os.Stat(c.path(dir, entry.Name(), dataFile))
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return 0, err
			}
			sum += info.Size()
		}
	}
	return sum, nil
}

// available is how many more machines the limits allow; -1 where they set none.
func (p *Provider) available(c *config) int {
	if c.MachineLimit == 0 {
		return -1
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return max(0, c.MachineLimit-len(p.machines))
}
