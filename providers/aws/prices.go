package aws

import (
	"context"
	"encoding/json"
	"math"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/pricing"
	"github.com/aws/aws-sdk-go-v2/service/pricing/types"
)

// tabled are prices in millionths of a dollar an hour, of Linux on demand, for
// where the price list cannot be asked: as https://aws.amazon.com/ec2/pricing/on-demand/
// had them. They are the list's, without taxes, volumes and addresses.
var tabled = map[string]map[string]int64{
	"us-east-1": {
		"m6a.large": 86_400, "m6a.xlarge": 172_800, "m6a.2xlarge": 345_600,
		"c6a.large": 76_500, "c6a.xlarge": 153_000, "c6a.2xlarge": 306_000,
		"r6a.large": 113_400, "r6a.xlarge": 226_800, "r6a.2xlarge": 453_600,
	},
	"us-east-2": {
		"m6a.large": 86_400, "m6a.xlarge": 172_800, "m6a.2xlarge": 345_600,
		"c6a.large": 76_500, "c6a.xlarge": 153_000, "c6a.2xlarge": 306_000,
		"r6a.large": 113_400, "r6a.xlarge": 226_800, "r6a.2xlarge": 453_600,
	},
}

// tabledAt is as of when.
var tabledAt = time.Date(2025, time.January, 1, 0, 0, 0, 0, time.UTC)

// pricesFor is how long what the price list said, or that it says nothing, is
// taken for true.
const pricesFor = 12 * time.Hour

// prices are those that the price list was asked for.
type prices struct {
	micros map[string]int64
	// silent is until when the list is not asked again.
	silent time.Time
	until  time.Time
}

// asked is a price from the price list.
func (s *site) asked(ctx context.Context, size string, now time.Time) (int64, bool) {
	s.mu.Lock()
	if now.After(s.prices.until) {
		s.prices.micros, s.prices.until = map[string]int64{}, now.Add(pricesFor)
	}
	micros, known := s.prices.micros[size]
	silent := now.Before(s.prices.silent)
	s.mu.Unlock()
	if known || silent {
		return micros, known
	}
	out, err := s.pricing.GetProducts(ctx, &pricing.GetProductsInput{
		ServiceCode: aws.String("AmazonEC2"), MaxResults: aws.Int32(1),
		Filters: []types.Filter{
			equal("instanceType", size), equal("regionCode", s.settings.Region), equal("operatingSystem", "Linux"),
			equal("tenancy", "Shared"), equal("preInstalledSw", "NA"), equal("capacitystatus", "Used"),
		},
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.prices.silent = now.Add(pricesFor)
		return 0, false
	}
	for _, product := range out.PriceList {
		if micros, ok := onDemand([]byte(product)); ok {
			s.prices.micros[size] = micros
			return micros, true
		}
	}
	return 0, false
}

func equal(field, value string) types.Filter {
	return types.Filter{Field: aws.String(field), Type: types.FilterTypeTermMatch, Value: aws.String(value)}
}

// maxProduct is more than the price list says of a product.
const maxProduct = 1 << 20

// onDemand reads the price of an hour from a product of the price list:
// https://docs.aws.amazon.com/awsaccountbilling/latest/aboutv2/reading-service-price-list-file-for-services.html
func onDemand(product []byte) (int64, bool) {
	var p struct {
		Terms struct {
			OnDemand map[string]struct {
				PriceDimensions map[string]struct {
					Unit         string            `json:"unit"`
					PricePerUnit map[string]string `json:"pricePerUnit"`
				} `json:"priceDimensions"`
			}
		} `json:"terms"`
	}
	if len(product) > maxProduct || json.Unmarshal(product, &p) != nil {
		return 0, false
	}
	for _, term := range p.Terms.OnDemand {
		for _, d := range term.PriceDimensions {
			dollars, err := strconv.ParseFloat(d.PricePerUnit["USD"], 64)
			if d.Unit == "Hrs" && err == nil && dollars > 0 && dollars < 1e6 {
				return int64(math.Round(dollars * 1e6)), true
			}
		}
	}
	return 0, false
}
