package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/google/go-tpm/tpm2/transport"
	"go.uber.org/zap"

	"github.com/toolshed-cloud/shed/agent"
	"github.com/toolshed-cloud/shed/agent/boot"
	"github.com/toolshed-cloud/shed/agent/seal"
	"github.com/toolshed-cloud/shed/agent/update"
	"github.com/toolshed-cloud/shed/attest/attester"
	"github.com/toolshed-cloud/shed/attest/attester/tsm"
	"github.com/toolshed-cloud/shed/attest/channel"
)

// The fixed places of the image and the machine.
const (
	modulesPath = "/etc/shed/modules"
	releasePath = "/etc/shed/release.json"
	tpmPath     = "/dev/tpm0"
	dataPath    = "/data"
	volumePath  = "/run/volume"
	recordsPath = volumePath + "/agent"
	port        = ":443"
	// deviceWait bounds the wait for a disk or the TPM.
	deviceWait = 10 * time.Second
	// trialWait is for emulated machines, an order of magnitude slower than others.
	trialWait = 90 * time.Second
)

// run is live, but a release that is tried and stops before the data is open, where
// nothing else says that it is on trial, ends with update.ErrRestart too.
func run(ctx context.Context, log *zap.Logger) error {
	starts := newFirmware()
	err := live(ctx, starts, log)
	if err != nil && !errors.Is(err, update.ErrRestart) && agent.WasTried(starts, log) {
		return errors.Join(update.ErrRestart, err)
	}
	return err
}

// live is the machine's life from the kernel to the power button.
func live(ctx context.Context, starts firmware, log *zap.Logger) error {
	if err := boot.Mount(); err != nil {
		return err
	}
	// What does not wait for modules begins before them: a machine is to answer soon.
	loaded := make(chan struct{})
	dataReady := sync.OnceValue(func() error {
		<-loaded
		return boot.LoadModules(modulesPath + ".data")
	})
	payload, err := readPayload()
	if err != nil {
		return err
	}
	trusted := make(chan opened, 1)
	go func() { trusted <- openTPM() }()
	card := make(chan error, 1)
	go func() { card <- boot.LoadNetworkModules(modulesPath) }()
	for _, load := range []func(string) error{boot.LoadModules, boot.LoadGuestModules} {
		if err := load(modulesPath); err != nil {
			return err
		}
	}
	close(loaded)
	where, err := findPlace(log)
	if err != nil {
		return err
	}
	go readyEarly(where, dataReady)
	machine, err := assemble(where, starts, payload, <-trusted, log, dataReady)
	if err != nil {
		return err
	}
	if !where.byNetwork {
		if err := where.configure(ctx, machine); err != nil {
			return err
		}
	}
	if err := boot.SilenceKernel(); err != nil {
		return err
	}
	if err := machine.OpenData(ctx); err != nil {
		return err
	}
	log.Info("data")
	err = <-card
	if err == nil {
		err = serve(ctx, where, machine, payload, dataReady, log)
	}
	return errors.Join(ending(err, machine.Trying()), machine.Close())
}

// ending is what a machine that ends with err does: whatever a release on trial lacks,
// the one before it may have.
func ending(err error, trying bool) error {
	if err != nil && trying {
		return errors.Join(update.ErrRestart, err)
	}
	return err
}

// readyEarly readies the mapping of a disk while the TPM is asked for the key, where
// there may be one to map.
func readyEarly(where place, dataReady func() error) {
	disk, err := where.dataDisk()
	if err != nil {
		return
	}
	if begun, err := seal.Begins(disk); err == nil && begun {
		dataReady() //nolint:errcheck // whoever maps a disk asks again
	}
}

// opened is the machine's TPM and the key of this boot, or why there is none.
type opened struct {
	device      transport.TPM
	tpm         *attester.TPM
	certificate tls.Certificate
	spki        []byte
	err         error
}

func openTPM() (o opened) {
	if o.certificate, o.spki, o.err = channel.NewCertificate(random); o.err != nil {
		return o
	}
	if o.err = boot.WaitFor(tpmPath, deviceWait); o.err != nil {
		return o
	}
	if err := os.Chmod(tpmPath, 0o600); err != nil {
		o.err = fmt.Errorf("closing the tpm to others: %w", err)
		return o
	}
	if o.device, o.err = attester.OpenDevice(tpmPath); o.err == nil {
		o.tpm, o.err = attester.Open(o.device)
	}
	return o
}

// assemble puts the machine together. dataReady waits until the data disk can be
// mapped.
func assemble(where place, starts firmware, payload *server, o opened, log *zap.Logger, dataReady func() error) (*agent.Machine, error) {
	if o.err != nil {
		return nil, o.err
	}
	ours, err := readRelease()
	if err != nil {
		return nil, err
	}
	volume, err := newVolume(where, o.tpm, ours, dataReady)
	if err != nil {
		return nil, err
	}
	if err := vouch(o.tpm, o.device, tsm.Dir(tsm.Root), volume.OwnerAuth, log); err != nil {
		return nil, err
	}
	images, err := slots()
	if err != nil {
		return nil, err
	}
	return agent.New(agent.Parts{
		TPM: o.tpm, Volume: volume, Certificate: o.certificate, SPKI: o.spki, Log: log,
		Firmware: starts, Lists: lists{starts}, Slots: images, Records: recordsPath, TrialWait: trialWait,
		Data:    boot.DataMount{Path: dataPath, Volume: volumePath, UID: payload.User, GID: payload.User},
		Payload: payload.supervisor(ours.environment(len(o.tpm.Reporters)), log),
	}), nil
}

// release is what the image says of itself.
type release struct {
	Version string `json:"version"`
	Epoch   uint64 `json:"epoch"`
	// OwnFirmware says that the release fixes registers 0 and 1.
	OwnFirmware bool `json:"own_firmware"`
}

func readRelease() (r release, err error) {
	b, err := os.ReadFile(releasePath)
	if err != nil {
		return r, fmt.Errorf("reading release: %w", err)
	}
	if err := json.Unmarshal(b, &r); err != nil {
		return r, fmt.Errorf("reading release: %w", err)
	}
	if r.Epoch == 0 {
		return r, errors.New("reading release: it has no epoch")
	}
	return r, nil
}

// environment is what the payload may say of its machine to its owner. It proves
// nothing.
func (r release) environment(hardwareReports int) []string {
	return []string{
		"SHED_RELEASE=" + r.Version, "SHED_EPOCH=" + strconv.FormatUint(r.Epoch, 10),
		"SHED_HARDWARE_REPORTS=" + strconv.Itoa(hardwareReports),
	}
}

func newVolume(where place, tpm *attester.TPM, r release, ready func() error) (*seal.DataVolume, error) {
	disk, err := where.dataDisk()
	if err != nil {
		return nil, err
	}
	return &seal.DataVolume{
		Device: tpm, Mapper: &seal.DMCrypt{Name: "data", Ready: ready}, Format: boot.Format, Rand: random,
		Disk: disk, Epoch: r.Epoch, Firmware: r.OwnFirmware,
	}, nil
}

// serve answers, runs the payload and reports until the power button is pressed, or
// the machine is to start anew.
func serve(ctx context.Context, where place, machine *agent.Machine, payload *server, dataReady func() error, log *zap.Logger) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	network, err := connect(ctx, machine)
	if err != nil {
		return err
	}
	log.Info("network", zap.Stringer("address", network.Address()))
	if where.byNetwork {
		if err := where.configure(ctx, machine); err != nil {
			return err
		}
		log.Info("configuration")
	}
	listener, err := net.Listen("tcp", port)
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	front := machine.Ingress()
	front.Rand = random
	ended := make(chan error, 5)
	go func() { ended <- fmt.Errorf("serving: %w", front.Serve(ctx, listener)) }()
	close(payload.listening)
	go func() {
		err := boot.PowerButton(ctx)
		if errors.Is(err, boot.ErrNoButton) {
			log.Warn("only a cut of the power stops this machine", zap.Error(err))
			return
		}
		ended <- err
	}()
	go func() { ended <- machine.FollowUpdates(ctx, machine.Releases()) }()
	go network.Keep(ctx, func(err error) { log.Warn("lease", zap.Error(err)) })
	go func() {
		if err := payload.reach(ctx, machine, network, log, ended); err != nil {
			ended <- err
			return
		}
		go machine.Enroller().Run(ctx)
		// A claim would wait for them.
		dataReady() //nolint:errcheck // whoever maps a disk asks again
	}()
	log.Info("serving")
	return <-ended
}

// connect brings the network up, for which a release on trial has no longer than for
// the rest: another waits for a lease as long as it takes.
func connect(ctx context.Context, machine *agent.Machine) (*boot.Network, error) {
	if machine.Trying() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, trialWait)
		defer cancel()
	}
	return boot.NetworkUp(ctx)
}
