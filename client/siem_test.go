package client

import (
	"net/url"
	"testing"
	"time"

	"fluent-bit-defender/conf"
	"fluent-bit-defender/internal/simtest"
	"fluent-bit-defender/transport"
)

func TestQueryOfTheAddress(t *testing.T) {
	midnight := time.Date(2016, 9, 12, 0, 0, 0, 0, time.UTC)
	f := func(name string, change func(*conf.Config), q Query, want string) {
		t.Helper()
		cfg := simtest.Settings()
		if change != nil {
			change(cfg)
		}
		u, err := transport.ParseAddress("url", cfg.URL)
		if err != nil {
			t.Fatal(err)
		}
		full, shown, err := newSIEM(u, cfg).address(q)
		if full != want || err != nil {
			t.Errorf("%s:\n got %s\nwant %s", name, full, want)
		}
		if u.RawQuery == "" && shown != full {
			t.Errorf("%s: log shows %s instead of %s", name, shown, full)
		}
	}
	const base = "https://alerts.test/api/alerts"
	f("nothing asked, nothing sent", nil, Query{}, base)
	f("the seed's example", nil, Query{Limit: 20, Since: midnight},
		base+"?limit=20&sinceTimeUtc=2016-09-12T00%3A00%3A00.0000000Z")
	f("both bounds, in UTC", nil, Query{Since: midnight.In(time.FixedZone("", 7200)), Until: midnight.Add(time.Hour)},
		base+"?sinceTimeUtc=2016-09-12T00%3A00%3A00.0000000Z&untilTimeUtc=2016-09-12T01%3A00%3A00.0000000Z")
	f("since rounds down, until up", nil, Query{Since: midnight.Add(199), Until: midnight.Add(101)},
		base+"?sinceTimeUtc=2016-09-12T00%3A00%3A00.0000001Z&untilTimeUtc=2016-09-12T00%3A00%3A00.0000002Z")
	f("whole 100 ns stay", nil, Query{Since: midnight.Add(300), Until: midnight.Add(300)},
		base+"?sinceTimeUtc=2016-09-12T00%3A00%3A00.0000003Z&untilTimeUtc=2016-09-12T00%3A00%3A00.0000003Z")
	f("until carries into the next second", nil, Query{Until: midnight.Add(-1)},
		base+"?untilTimeUtc=2016-09-12T00%3A00%3A00.0000000Z")
	f("ago", nil, Query{Ago: "PT10M"}, base+"?ago=PT10M")
	f("no negative limit", nil, Query{Limit: -1}, base)
	f("the seed's machine groups",
		func(c *conf.Config) { c.MachineGroups = []string{"UKMachines", "FranceMachines"} }, Query{},
		base+"?machinegroups=UKMachines&machinegroups=FranceMachines")
	f("names that need escaping", func(c *conf.Config) {
		c.MachineGroups = []string{"R&D + Test", "a=b?c#d", "Zürich/50%", "x;y"}
		c.DeviceCreatedMachineTags = `"vip" \ one`
		c.CloudCreatedMachineTags = "日本"
	}, Query{}, base+"?CloudCreatedMachineTags=%E6%97%A5%E6%9C%AC&DeviceCreatedMachineTags=%22vip%22%20%5C%20one"+
		"&machinegroups=R%26D%20%2B%20Test&machinegroups=a%3Db%3Fc%23d"+
		"&machinegroups=Z%C3%BCrich%2F50%25&machinegroups=x%3By")
	f("the address's own query stays in front",
		func(c *conf.Config) { c.URL += "?api-version=1&x=%20#top" }, Query{Limit: 1},
		base+"?api-version=1&x=%20&limit=1")
	f("the address's own query alone", func(c *conf.Config) { c.URL += "?api-version=1" }, Query{},
		base+"?api-version=1")
}

func TestFiltersAreNotSharedBetweenRequests(t *testing.T) {
	cfg := simtest.Settings()
	cfg.MachineGroups = []string{"a"}
	u, _ := url.Parse(cfg.URL)
	s := newSIEM(u, cfg)
	s.address(Query{Limit: 5, Ago: "PT1M"})
	if full, _, _ := s.address(Query{}); full != "https://alerts.test/api/alerts?machinegroups=a" {
		t.Fatalf("the second request is %s", full)
	}
}
