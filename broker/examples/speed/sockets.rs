//! The CPU time and the memory of a broker's process, by /proc, while a client in another process publishes and consumes.

use std::fs;

use super::{
    Result,
    client::{
        ACK, CONFIRMS_SELECTED, Client, DELIVER, QOS_SET, QUEUE_DECLARED, QUEUE_DELETED, frame, publish, tag,
    },
};

const MESSAGES: u64 = 400_000;
/// How many publishes are written at once, and how many may be unconfirmed.
const BATCH: u64 = 100;
const UNCONFIRMED: u64 = 1_000;
const BODY: usize = 16;
const QUEUE: &str = "actix-pika.speed";

pub(super) fn measure(port: u16, process: u32) -> Result<()> {
    if fs::metadata("/proc/self/stat").is_err() {
        println!("over sockets: not measured, because there is no /proc here");
        return Ok(());
    }
    let mut client = Client::connect(port)?;
    let named =
        |method: &[u8], rest: &[u8]| [method, &[0, 0, QUEUE.len() as u8], QUEUE.as_bytes(), rest].concat();
    client.call(&named(b"\0\x32\0\x0a", &[0, 0, 0, 0, 0]), QUEUE_DECLARED)?;
    client.call(b"\0\x55\0\x0a\0", CONFIRMS_SELECTED)?;
    let memory = resident_kb(process)?;
    let cpu = cpu_seconds(process)?;
    publish_all(&mut client)?;
    report("confirmed publish", cpu_seconds(process)? - cpu);
    let grown = resident_kb(process)?.saturating_sub(memory);
    println!(
        "over sockets, memory for each message of {BODY} B that is stored: {} B",
        grown * 1024 / MESSAGES
    );
    client.call(b"\0\x3c\0\x0a\0\0\0\0\x03\xe8\0", QOS_SET)?;
    let cpu = cpu_seconds(process)?;
    client.send(&frame(1, 1, &named(b"\0\x3c\0\x14", b"\x01c\0\0\0\0\0")))?;
    consume_all(&mut client)?;
    // Its answer follows the last ack.
    client.call(&named(b"\0\x32\0\x28", &[0]), QUEUE_DELETED)?;
    report("delivery that is acknowledged", cpu_seconds(process)? - cpu);
    Ok(())
}

fn report(what: &str, cpu: f64) {
    println!("over sockets, CPU of the broker for a {what}: {:.2} us", cpu * 1e6 / MESSAGES as f64);
}

fn publish_all(client: &mut Client) -> Result<()> {
    let batch = publish(QUEUE, &[7; BODY]).repeat(BATCH as usize);
    let (mut published, mut confirmed) = (0, 0);
    while confirmed < MESSAGES {
        if published < MESSAGES && published - confirmed <= UNCONFIRMED - BATCH {
            client.send(&batch)?;
            published += BATCH;
            continue;
        }
        // A broker confirms in order here, with `multiple` or one by one.
        client.read(|payload| {
            if payload.starts_with(&ACK) {
                confirmed = tag(payload).unwrap_or(confirmed).max(confirmed);
            }
        })?;
    }
    Ok(())
}

fn consume_all(client: &mut Client) -> Result<()> {
    let mut delivered = 0;
    let mut acks = Vec::new();
    while delivered < MESSAGES {
        client.read(|payload| {
            if payload.starts_with(&DELIVER)
                && let Some(tag) = tag(payload)
            {
                delivered += 1;
                acks.extend(frame(1, 1, &[&ACK, &tag.to_be_bytes()[..], &[0]].concat()));
            }
        })?;
        client.send(&acks)?;
        acks.clear();
    }
    Ok(())
}

/// User and system time of all threads. The kernel gives it in hundredths of a second.
fn cpu_seconds(process: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The name of the process, in parentheses, may have spaces.
    let (_, fields) = stat.rsplit_once(')').ok_or("no name in /proc/PID/stat")?;
    let mut ticks = 0.0;
    for field in fields.split_whitespace().skip(11).take(2) {
        ticks += field.parse::<f64>()?;
    }
    Ok(ticks / 100.0)
}

fn resident_kb(process: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line =
        status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS in /proc/PID/status")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
