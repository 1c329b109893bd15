// Looks for telephone events among the frames of received sound: a page gets them as they are on
// the wire, and only in a worker. All frames go on to the browser untouched.

onrtctransform = async ({ transformer: { readable, writable, options } }) => {
  const { port, payloadTypes } = options;
  const reader = readable.getReader();
  const writer = writable.getWriter();
  for (let next; !(next = await reader.read()).done;) {
    const frame = next.value;
    const { payloadType, rtpTimestamp } = frame.getMetadata();
    if (payloadTypes.includes(payloadType)) {
      port.postMessage([rtpTimestamp ?? frame.timestamp, new Uint8Array(frame.data.slice(0, 4))]);
    }
    // A writer that has closed takes no more: the track has ended.
    writer.write(frame).catch(() => {});
  }
};
