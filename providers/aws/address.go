package aws

import (
	"context"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/toolshed-cloud/shed/providers/aws/refusal"
)

// address is the machine's Elastic IP address: the one that it has, or one more.
func (s *site) address(ctx context.Context, f *found, t tags) (a types.Address, made bool, err error) {
	for _, known := range f.addresses {
		if known.AssociationId != nil {
			return known, false, nil
		}
	}
	if len(f.addresses) > 0 {
		return f.addresses[0], false, nil
	}
	out, err := s.ec2.AllocateAddress(ctx, &ec2.AllocateAddressInput{
		Domain: types.DomainTypeVpc, TagSpecifications: t.on(types.ResourceTypeElasticIp),
	})
	if err != nil {
		return a, false, refusal.From("allocating an address", err, refusal.Makes)
	}
	return types.Address{AllocationId: out.AllocationId, PublicIp: out.PublicIp, Tags: t.list()}, true, nil
}

func (s *site) release(ctx context.Context, a types.Address) error {
	if a.AssociationId != nil {
		_, err := s.ec2.DisassociateAddress(ctx, &ec2.DisassociateAddressInput{AssociationId: a.AssociationId})
		if err != nil && !refusal.Is(err, "InvalidAssociationID.NotFound") {
			return refusal.From("detaching the address", err, refusal.Repeatable)
		}
	}
	_, err := s.ec2.ReleaseAddress(ctx, &ec2.ReleaseAddressInput{AllocationId: a.AllocationId})
	if refusal.Is(err, "InvalidAllocationID.NotFound") {
		return nil
	}
	return refusal.From("releasing the address", err, refusal.Repeatable)
}

const (
	// attachTick and attachFor bound how often, and how long, an instance that
	// is still pending is waited for: EC2 attaches no address to one.
	attachTick = time.Second
	attachFor  = 20 * time.Second
)

// attach gives the address to the network interface. What is not possible while
// the instance is pending is tried again for some seconds; beyond that it is
// drift, which Apply mends.
func (s *site) attach(ctx context.Context, a *types.Address, nic string) error {
	ctx, cancel := context.WithTimeout(ctx, attachFor)
	defer cancel()
	tick := time.NewTicker(attachTick)
	defer tick.Stop()
	for {
		out, err := s.ec2.AssociateAddress(ctx, &ec2.AssociateAddressInput{
			AllocationId: a.AllocationId, NetworkInterfaceId: aws.String(nic), AllowReassociation: aws.Bool(false),
		})
		switch {
		case err == nil:
			a.AssociationId = out.AssociationId
			return nil
		case refusal.Is(err, "Resource.AlreadyAssociated"):
			// The interface has one already, as after an answer that was lost.
			return s.release(ctx, *a)
		case !refusal.Is(err, "InvalidInstanceID", "IncorrectInstanceState", "IncorrectState"):
			return refusal.From("attaching the address", err, refusal.Repeatable)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return refusal.From("attaching the address", err, refusal.Repeatable)
		}
	}
}
