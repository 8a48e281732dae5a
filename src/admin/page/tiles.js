// The six numbers at the top, each with its plot.

const tiles = {
  all: null,

  make() {
    const wait = (queue) => (sample) => sample.wait[queue].p95_seconds;
    const interval = (of) => (sample) => of(sample) / 5;
    const ended = ({ ended: all }) => total(all);
    const errors = ({ ended: all }) => all.server_error;
    const head = (sample) => Math.max(...Object.values(sample.upstreams).map((span) => span.head.p95_seconds ?? -1), -1);
    const known = (value) => (value < 0 ? null : value);
    this.all = {
      running: tile("Running", "running", {
        stacked: true, unit: count, limit: () => live.status.limits.concurrency,
        lines: [{ kind: "run", name: "running", of: (sample) => sample.in_flight }],
      }),
      waiting: tile("Waiting", "waiting", {
        stacked: true, unit: count,
        lines: [
          { kind: "turn", name: "turn", of: (sample) => sample.waiting.turn },
          { kind: "rate", name: "rate", of: (sample) => sample.waiting.rate },
          { kind: "place", name: "place", of: (sample) => sample.waiting.place },
        ],
      }),
      wait: tile("Wait in queues, p95", "wait", {
        unit: seconds,
        lines: ["turn", "rate", "place"].map((queue) => ({ kind: queue, name: `${queue} p95`, of: wait(queue) })),
      }),
      head: tile("Servers answer, p95", "head", {
        unit: seconds,
        lines: [{ kind: "run", name: "p95", of: (sample) => known(head(sample)) }],
      }),
      ended: tile("Ended", "ended", {
        unit: rate,
        lines: [{ kind: "run", name: "all", of: interval(ended) }, { kind: "refused", name: "5xx", of: interval(errors) }],
      }),
      refused: tile("Refused", "refused", {
        bars: true, unit: count,
        lines: [{ kind: "refused", name: "refused", of: (sample) => total(sample.refused) }],
      }),
    };
    byId("tiles").append(...Object.values(this.all).map((one) => one.element));
  },

  update(status, minute, samples) {
    if (!this.all) this.make();
    const { limits, routes: all } = status;
    const waits = (queue) => all.reduce((sum, route) => sum + route.waiting[queue], 0);
    const [turn, rates, place] = ["turn", "rate", "place"].map(waits);
    this.all.running.update(samples, {
      value: count(limits.in_flight), beside: `of ${count(limits.concurrency)}`, level: limits.in_flight >= limits.concurrency && "warn",
      note: [limits.oldest_in_flight_seconds > 0 ? `the longest for ${seconds(limits.oldest_in_flight_seconds)}` : "nothing runs"],
    });
    this.all.waiting.update(samples, {
      value: count(turn + rates + place), beside: limits.oldest_wait_seconds > 0 ? `longest ${seconds(limits.oldest_wait_seconds)}` : "",
      note: [[`turn ${count(turn)}`, "turn"], [`rate ${count(rates)}`, "rate"], [`place ${count(place)} of ${count(limits.queue)}`, "place"]],
      level: limits.waiting > 0.8 * limits.queue && "bad",
    });
    const worst = worstWait(minute.wait);
    const waited = ["turn", "rate", "place"].filter((queue) => minute.wait[queue].count > 0).map((queue) => {
      const { p50_seconds: p50, p95_seconds: p95 } = minute.wait[queue];
      return [`${queue} ${seconds(p50)} / ${seconds(p95)}`, queue];
    });
    this.all.wait.update(samples, {
      value: seconds(worst?.p95_seconds), beside: worst ? `for a ${worst.queue}` : "", note: waited.length ? waited : ["nothing came within the last minute"],
    });
    const heads = Object.values(minute.upstreams).map((one) => one.head).filter((one) => one.count);
    heads.sort((a, b) => b.p95_seconds - a.p95_seconds);
    const sumOf = (list) => list.reduce((sum, one) => sum + one.count, 0);
    const failed = Object.values(minute.upstreams).reduce((sum, one) => sum + total(one.errors), 0);
    this.all.head.update(samples, {
      value: seconds(heads[0]?.p95_seconds), beside: "", level: failed && "bad",
      note: [...(heads.length ? [`p50 ${seconds(heads[0].p50_seconds)}`, many(sumOf(heads), "answer", "answers")] : ["no answer within the last minute"]), failed ? many(failed, "failure", "failures") : "no failure"],
    });
    const all_ended = total(minute.ended);
    const part = (number) => `${((100 * number) / all_ended).toFixed(number === 0 || number === all_ended ? 0 : 1)} %`;
    const { ok, client_error: wrong, server_error: broken, left } = minute.ended;
    this.all.ended.update(samples, {
      value: rate(all_ended / (minute.seconds || 1)), beside: "",
      note: all_ended ? [`good ${part(ok)}`, `4xx ${count(wrong)}`, [`5xx ${count(broken)}`, "refused"], `left ${count(left)}`] : ["nothing ended within the last minute"],
    });
    const refused = total(minute.refused);
    const loud = Object.keys(minute.refused).some((reason) => faultOf(reason) !== "client");
    this.all.refused.update(samples, {
      value: count(refused), beside: "within a minute", level: refused && (loud ? "bad" : "warn"),
      note: refused ? Object.entries(minute.refused).sort((a, b) => b[1] - a[1]).map(([reason, number]) => `${reason} ${count(number)}`) : ["none within the last minute"],
    });
  },
};
