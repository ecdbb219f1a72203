package main

import (
	"context"
	"math/rand/v2"
	"time"

	"fluent-bit-defender/internal/defendersim"
)

// feeds give the service alerts of an API until their context ends: some of the last hour, and a few every second.
var feeds = map[string]func(context.Context, *defendersim.Service){"siem": feedSIEM, "graph": feedGraph}

func source(at time.Time, n uint64) *rand.Rand {
	return rand.New(rand.NewPCG(uint64(at.UnixNano()), n))
}

// feedSIEM gives the seed's example too.
func feedSIEM(ctx context.Context, svc *defendersim.Service) {
	now := time.Now().UTC()
	mix := defendersim.Mix{Style: defendersim.MixedStyle}
	svc.Add(defendersim.SeedAlert(now.Add(-time.Hour)))
	svc.Add(defendersim.Generate(source(now, 1), 20, now.Add(-50*time.Minute), now, mix)...)
	gen := defendersim.NewGenerator(source(now, 2), mix)
	every(ctx, func(now time.Time) { svc.Add(gen.Alert(now)) })
}

// feedGraph gives updates of earlier alerts too, one for two new ones.
func feedGraph(ctx context.Context, svc *defendersim.Service) {
	const open = 50 // alerts that may still be updated
	now := time.Now().UTC()
	svc.AddGraph(defendersim.GenerateGraph(source(now, 1), 20, 10, now.Add(-50*time.Minute), now,
		defendersim.GraphMix{})...)
	rnd := source(now, 2)
	gen := defendersim.NewGraphGenerator(rnd, defendersim.GraphMix{})
	var latest []defendersim.GraphAlert
	every(ctx, func(now time.Time) {
		if len(latest) > 0 && rnd.IntN(3) == 0 {
			i := rnd.IntN(len(latest))
			latest[i] = gen.Update(latest[i], now)
			svc.AddGraph(latest[i])
			return
		}
		latest = append(latest, gen.Alert(now))
		svc.AddGraph(latest[len(latest)-1])
		latest = latest[max(0, len(latest)-open):]
	})
}

// every does something three times a second.
func every(ctx context.Context, do func(now time.Time)) {
	tick := time.NewTicker(time.Second / 3)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			do(time.Now().UTC())
		}
	}
}
