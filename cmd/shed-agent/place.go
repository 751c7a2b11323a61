package main

import (
	"context"
	"time"

	"go.uber.org/zap"

	"github.com/toolshed-cloud/shed/agent"
	"github.com/toolshed-cloud/shed/agent/api"
	"github.com/toolshed-cloud/shed/agent/boot"
	"github.com/toolshed-cloud/shed/agent/imds"
	"github.com/toolshed-cloud/shed/agent/seal"
)

// place is how a machine comes by its data disk and its configuration where it
// is (docs/decisions/0069).
type place struct {
	dataDisk func() (string, error)
	// config answers a config drive's bytes. byNetwork says that it needs the
	// network, which comes up once nothing can be unsealed any more.
	config    func(context.Context) ([]byte, error)
	byNetwork bool
}

// The serial numbers of disks that a provider chooses them for.
const (
	configDisk = "shed-config"
	dataDisk   = "shed-data"
)

// configWait bounds the wait for a configuration that comes by the network. The
// owner's data is open by then, and nobody can be told: a machine that gives up
// is off, and starts anew.
const configWait = 5 * time.Minute

func findPlace(log *zap.Logger) (place, error) {
	ec2, err := boot.OnEC2()
	if err != nil {
		return place{}, err
	}
	if ec2 {
		return onEC2(log), nil
	}
	return place{
		dataDisk: func() (string, error) { return boot.FindDisk(dataDisk, deviceWait) },
		config:   readDrive,
	}, nil
}

func readDrive(context.Context) ([]byte, error) {
	path, err := boot.FindDisk(configDisk, deviceWait)
	if err != nil {
		return nil, err
	}
	return boot.ReadDrive(path, api.MaxDriveBytes)
}

// onEC2 has user data in place of a drive, and a data disk without a name.
func onEC2(log *zap.Logger) place {
	client := imds.Client{Base: imds.Base, Transport: imds.Transport(), Report: func(err error) { log.Warn("user data", zap.Error(err)) }}
	return place{
		dataDisk:  func() (string, error) { return boot.FindVolume(seal.Fits, deviceWait) },
		byNetwork: true,
		config: func(ctx context.Context) ([]byte, error) {
			ctx, cancel := context.WithTimeout(ctx, configWait)
			defer cancel()
			return client.UserData(ctx, api.MaxDriveBytes)
		},
	}
}

// configure has the machine measure its configuration.
func (p place) configure(ctx context.Context, m *agent.Machine) error {
	drive, err := p.config(ctx)
	if err != nil {
		return err
	}
	encoded, token, err := api.DecodeDrive(drive)
	if err != nil {
		return err
	}
	return m.Configure(encoded, token)
}
