package aws

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/pricing"
	"github.com/aws/aws-sdk-go-v2/service/servicequotas"
	"github.com/aws/smithy-go/middleware"

	"github.com/toolshed-cloud/shed/providers"
	"github.com/toolshed-cloud/shed/providers/aws/pace"
)

// site is an account in a region, as the settings name it.
type site struct {
	settings settings
	ec2      *ec2.Client
	ebs      *ebs.Client
	quotas   *servicequotas.Client
	pricing  *pricing.Client

	// grouping lets one security group be made at a time: several machines of a
	// new installation are often made at once.
	grouping sync.Mutex

	mu sync.Mutex
	// The fields below are guarded by mu, and can be asked for again.
	subnets []subnet
	groups  map[providers.InstallationID]string
	prices  prices
}

const (
	// longestPace is how long a request waits for its turn.
	longestPace = 10 * time.Second
	// answerWithin is how long AWS may take to begin with an answer.
	answerWithin = 30 * time.Second
	// pricesIn is a region that the price list answers in, for all of them:
	// https://docs.aws.amazon.com/awsaccountbilling/latest/aboutv2/using-price-list-query-api.html
	pricesIn = "us-east-1"
	// putAttempts is how often a block is put: that can be repeated freely.
	putAttempts = 5
)

func open(ctx context.Context, s settings) (*site, error) {
	cfg, err := configOf(ctx, s)
	if err != nil {
		return nil, err
	}
	pacer := pace.New(s.APILimits, longestPace)
	return &site{
		settings: s,
		groups:   map[providers.InstallationID]string{},
		ec2: ec2.NewFromConfig(cfg, func(o *ec2.Options) {
			o.APIOptions = append(o.APIOptions, paced(pacer))
		}),
		ebs: ebs.NewFromConfig(cfg, func(o *ebs.Options) {
			o.Retryer = retry.NewStandard(func(r *retry.StandardOptions) { r.MaxAttempts = putAttempts })
		}),
		quotas:  servicequotas.NewFromConfig(cfg),
		pricing: pricing.NewFromConfig(cfg, func(o *pricing.Options) { o.Region = pricesIn }),
	}, nil
}

// configOf takes the settings before whatever the SDK would read: a plugin's
// environment has nothing of the operator's.
func configOf(ctx context.Context, s settings) (aws.Config, error) {
	client := awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) {
		t.ResponseHeaderTimeout = answerWithin
		t.MaxIdleConnsPerHost = 64
	})
	options := []func(*config.LoadOptions) error{
		config.WithRegion(s.Region),
		config.WithHTTPClient(client),
		// The control plane repeats what failed, and knows better when.
		config.WithRetryer(func() aws.Retryer { return aws.NopRetryer{} }),
		config.WithSharedConfigFiles([]string{}),
		config.WithSharedConfigProfile(s.Profile),
	}
	if s.Endpoint != "" {
		options = append(options, config.WithBaseEndpoint(s.Endpoint))
	}
	files := []string{}
	if s.CredentialsFile != "" {
		files = append(files, s.CredentialsFile)
	} else {
		options = append(options, config.WithSharedConfigProfile(""))
	}
	options = append(options, config.WithSharedCredentialsFiles(files))
	if s.AccessKeyID != "" {
		options = append(options, config.WithCredentialsProvider(credentials.NewStaticCredentialsProvider(s.AccessKeyID, s.SecretAccessKey, s.SessionToken)))
	}
	cfg, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		e := providers.Errorf(providers.CodeInvalid, "settings: reading the credentials: %s", err)
		e.Hint = "look at credentials_file and profile"
		return cfg, e
	}
	return cfg, nil
}

// paced waits for a token of the action's bucket before each request.
func paced(p *pace.Pacer) func(*middleware.Stack) error {
	return func(stack *middleware.Stack) error {
		return stack.Initialize.Add(middleware.InitializeMiddlewareFunc("Pace", func(
			ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler,
		) (middleware.InitializeOutput, middleware.Metadata, error) {
			if err := p.Wait(ctx, awsmiddleware.GetOperationName(ctx)); err != nil {
				return middleware.InitializeOutput{}, middleware.Metadata{}, err
			}
			return next.HandleInitialize(ctx, in)
		}), middleware.After)
	}
}
