package plugin

import (
	"context"

	"google.golang.org/grpc"

	"github.com/toolshed-cloud/shed/providers"
	"github.com/toolshed-cloud/shed/providers/plugin/pb"
)

// server answers the wire from a provider in this process.
type server struct {
	pb.UnimplementedProviderServer
	provider providers.Provider
	width    *width
}

var _ pb.ProviderServer = (*server)(nil)

func (s *server) Info(ctx context.Context, _ *pb.InfoRequest) (*pb.InfoResponse, error) {
	info, err := s.provider.Info(ctx)
	if err != nil {
		return nil, toStatus(err)
	}
	return infoToPB(info), nil
}

func (s *server) Configure(ctx context.Context, r *pb.ConfigureRequest) (*pb.ConfigureResponse, error) {
	if err := s.provider.Configure(ctx, r.GetSettings()); err != nil {
		return nil, toStatus(err)
	}
	return &pb.ConfigureResponse{}, nil
}

func (s *server) Offerings(ctx context.Context, _ *pb.OfferingsRequest) (*pb.OfferingsResponse, error) {
	offerings, err := s.provider.Offerings(ctx)
	if err != nil {
		return nil, toStatus(err)
	}
	return offeringsToPB(offerings), nil
}

func (s *server) EnsureImage(r *pb.EnsureImageRequest, stream grpc.ServerStreamingServer[pb.Progress]) error {
	image, err := imageFromPB(r)
	if err != nil {
		return toStatus(invalid(err))
	}
	defer s.width.widen()()
	// A host that went away cancels the stream's context, which ends the
	// import; a lost progress report by itself ends nothing.
	var lost error
	err = s.provider.EnsureImage(stream.Context(), image, func(done, total int64) {
		if lost == nil {
			lost = stream.Send(&pb.Progress{Done: done, Total: total})
		}
	})
	return toStatus(err)
}

func (s *server) Create(ctx context.Context, r *pb.CreateRequest) (*pb.Machine, error) {
	req, err := createFromPB(r)
	if err != nil {
		return nil, toStatus(invalid(err))
	}
	m, err := s.provider.Create(ctx, req)
	if err != nil {
		return nil, toStatus(err)
	}
	return machineToPB(m), nil
}

func (s *server) Get(ctx context.Context, r *pb.GetRequest) (*pb.Machine, error) {
	m, err := s.provider.Get(ctx, providers.MachineID(r.GetMachine()))
	if err != nil {
		return nil, toStatus(err)
	}
	return machineToPB(m), nil
}

func (s *server) List(ctx context.Context, r *pb.ListRequest) (*pb.ListResponse, error) {
	page, err := s.provider.List(ctx, providers.InstallationID(r.GetInstallation()), r.GetPage())
	if err != nil {
		return nil, toStatus(err)
	}
	return &pb.ListResponse{Resources: resourcesToPB(page.Resources), Next: page.Next}, nil
}

func (s *server) SetPower(ctx context.Context, r *pb.SetPowerRequest) (*pb.SetPowerResponse, error) {
	if err := s.provider.SetPower(ctx, providers.MachineID(r.GetMachine()), r.GetOn()); err != nil {
		return nil, toStatus(err)
	}
	return &pb.SetPowerResponse{}, nil
}

func (s *server) Apply(ctx context.Context, r *pb.ApplyRequest) (*pb.Machine, error) {
	m, err := s.provider.Apply(ctx, providers.Change{
		Machine: providers.MachineID(r.GetMachine()), Generation: r.GetGeneration(), DataBytes: r.GetDataBytes(),
	})
	if err != nil {
		return nil, toStatus(err)
	}
	return machineToPB(m), nil
}

func (s *server) Delete(ctx context.Context, r *pb.DeleteRequest) (*pb.DeleteResponse, error) {
	if err := s.provider.Delete(ctx, providers.MachineID(r.GetMachine()), r.GetKeepData()); err != nil {
		return nil, toStatus(err)
	}
	return &pb.DeleteResponse{}, nil
}

func invalid(err error) *providers.Error {
	return providers.Errorf(providers.CodeInvalid, "reading the request: %s", err)
}
