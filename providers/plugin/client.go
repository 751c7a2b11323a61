package plugin

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc"

	"github.com/toolshed-cloud/shed/providers"
	"github.com/toolshed-cloud/shed/providers/plugin/pb"
)

// client is a provider at the other end of one connection.
type client struct {
	wire pb.ProviderClient
}

func newClient(conn grpc.ClientConnInterface) *client {
	return &client{wire: pb.NewProviderClient(conn)}
}

func (c *client) Info(ctx context.Context) (providers.Info, error) {
	r, err := c.wire.Info(ctx, &pb.InfoRequest{})
	if err != nil {
		return providers.Info{}, fromStatus(err, providers.CodeUnavailable)
	}
	return infoFromPB(r), nil
}

func (c *client) Configure(ctx context.Context, settings []byte) error {
	_, err := c.wire.Configure(ctx, &pb.ConfigureRequest{Settings: settings})
	return fromStatus(err, providers.CodeUnavailable)
}

func (c *client) Offerings(ctx context.Context) ([]providers.Offering, error) {
	r, err := c.wire.Offerings(ctx, &pb.OfferingsRequest{})
	if err != nil {
		return nil, fromStatus(err, providers.CodeUnavailable)
	}
	offerings, err := offeringsFromPB(r)
	if err != nil {
		return nil, unreadable(err)
	}
	return offerings, nil
}

func (c *client) EnsureImage(ctx context.Context, image providers.Image, progress func(done, total int64)) error {
	stream, err := c.wire.EnsureImage(ctx, imageToPB(image))
	if err != nil {
		return fromStatus(err, providers.CodeUnavailable)
	}
	for {
		p, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fromStatus(err, providers.CodeUnavailable)
		}
		if progress != nil {
			progress(p.GetDone(), p.GetTotal())
		}
	}
}

func (c *client) Create(ctx context.Context, req providers.CreateRequest) (providers.Machine, error) {
	m, err := c.wire.Create(ctx, createToPB(req))
	if err != nil {
		// The request may have reached the plugin before the connection was
		// lost.
		return providers.Machine{}, fromStatus(err, providers.CodeOutcomeUnknown)
	}
	machine, err := machineFromPB(m)
	if err != nil {
		return providers.Machine{}, providers.Errorf(providers.CodeOutcomeUnknown, "reading the plugin's answer: %s", err)
	}
	return machine, nil
}

func (c *client) Get(ctx context.Context, id providers.MachineID) (providers.Machine, error) {
	m, err := c.wire.Get(ctx, &pb.GetRequest{Machine: string(id)})
	if err != nil {
		return providers.Machine{}, fromStatus(err, providers.CodeUnavailable)
	}
	machine, err := machineFromPB(m)
	if err != nil {
		return providers.Machine{}, unreadable(err)
	}
	return machine, nil
}

func (c *client) List(ctx context.Context, installation providers.InstallationID, page string) (providers.Page, error) {
	r, err := c.wire.List(ctx, &pb.ListRequest{Installation: string(installation), Page: page})
	if err != nil {
		return providers.Page{}, fromStatus(err, providers.CodeUnavailable)
	}
	resources, err := resourcesFromPB(r.GetResources())
	if err != nil {
		return providers.Page{}, unreadable(err)
	}
	return providers.Page{Resources: resources, Next: r.GetNext()}, nil
}

func (c *client) SetPower(ctx context.Context, id providers.MachineID, on bool) error {
	_, err := c.wire.SetPower(ctx, &pb.SetPowerRequest{Machine: string(id), On: on})
	return fromStatus(err, providers.CodeUnavailable)
}

func (c *client) Apply(ctx context.Context, change providers.Change) (providers.Machine, error) {
	m, err := c.wire.Apply(ctx, &pb.ApplyRequest{Machine: string(change.Machine), Generation: change.Generation, DataBytes: change.DataBytes})
	if err != nil {
		return providers.Machine{}, fromStatus(err, providers.CodeUnavailable)
	}
	machine, err := machineFromPB(m)
	if err != nil {
		return providers.Machine{}, unreadable(err)
	}
	return machine, nil
}

func (c *client) Delete(ctx context.Context, id providers.MachineID, keepData bool) error {
	_, err := c.wire.Delete(ctx, &pb.DeleteRequest{Machine: string(id), KeepData: keepData})
	return fromStatus(err, providers.CodeUnavailable)
}

func unreadable(err error) *providers.Error {
	return providers.Errorf(providers.CodeInternal, "reading the plugin's answer: %s", err)
}
