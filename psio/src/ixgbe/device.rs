//! The card as a whole: set-up in the datasheet's order, and what only one owner may touch.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::access::Bus;
use super::config::IxgbeConfig;
use super::filters::{self, FiveTuple, Taken};
use super::link::{self, Link};
use super::queue::IxgbeQueue;
use super::rss::{self, TABLE_LEN, even_table};
use super::statistics::{self, PortStatistics};
use super::watch::LinkSeen;
use super::{interrupts, receive, reset, transmit};
use crate::{Capabilities, Device, Error, MacAddr, Queue, Rss, no_such_queue};

/// A card, set up. It is stopped when it and the last of its queues are dropped.
pub struct Ixgbe<B: Bus> {
    name: String,
    mac: MacAddr,
    card: Arc<Card<B>>,
}

/// What the card's queues share.
pub(super) struct Card<B: Bus> {
    pub bus: B,
    pub config: IxgbeConfig,
    pub link: LinkSeen,
    globals: Mutex<Globals>,
}

#[derive(Default)]
struct Globals {
    /// Queues that are open, a bit each.
    open: u64,
    filters: Taken,
    statistics: PortStatistics,
}

impl<B: Bus> Ixgbe<B> {
    /// Resets the card and sets it up (§4.6.1 of the datasheet). Its link comes up some seconds later.
    ///
    /// # Errors
    /// [`Error::Description`] for a configuration that the card cannot have, [`Error::Refused`] if it
    /// does not answer as it should.
    pub fn open(bus: B, config: IxgbeConfig) -> Result<Ixgbe<B>, Error> {
        config.check()?;
        reset::reset(&bus)?;
        bus.start_dma()?;
        let mac = reset::address(&bus)?;
        statistics::set_up(&bus);
        filters::set_up(&bus, config.promiscuous);
        receive::set_up(&bus, &config);
        rss::set_up(&bus, &config.rss_key, &even_table(config.queues));
        transmit::set_up(&bus);
        interrupts::set_up(&bus, config.queues, config.moderation);
        receive::enable(&bus)?;
        link::start(&bus);
        Ok(Ixgbe {
            name: bus.name().to_owned(),
            mac,
            card: Arc::new(Card {
                bus,
                config,
                link: LinkSeen::new(),
                globals: Mutex::default(),
            }),
        })
    }

    /// The link's state.
    pub fn link(&self) -> Link {
        link::state(&self.card.bus)
    }

    /// What the port has counted since it was set up.
    pub fn statistics(&self) -> PortStatistics {
        let mut globals = self.card.globals();
        globals.statistics.collect(&self.card.bus);
        globals.statistics
    }

    /// Has the hash of frames choose the queue by this table.
    ///
    /// # Errors
    /// [`Error::Description`] for an entry that names no queue of ours.
    pub fn spread(&self, table: &[u8; TABLE_LEN]) -> Result<(), Error> {
        let queues = self.card.config.queues.min(rss::MAX_QUEUES);
        if let Some(&wrong) = table.iter().find(|&&queue| usize::from(queue) >= queues) {
            return Err(no_such_queue(&self.name, wrong.into(), queues));
        }
        let _owner = self.card.globals();
        rss::set_table(&self.card.bus, table);
        Ok(())
    }

    /// Sends the frames of a flow to a queue; returns the filter that does it.
    ///
    /// # Errors
    /// [`Error::Refused`] if all filters are taken, [`Error::Description`] for a queue that does not
    /// exist.
    pub fn steer(&self, flow: FiveTuple, queue: usize) -> Result<usize, Error> {
        let queues = self.card.config.queues;
        if queue >= queues {
            return Err(no_such_queue(&self.name, queue, queues));
        }
        let mut globals = self.card.globals();
        let index = globals.filters.take(&self.name)?;
        filters::steer(&self.card.bus, index, flow, queue);
        Ok(index)
    }

    /// Gives back a filter that [`steer`](Self::steer) has set; false if there is none such.
    pub fn release(&self, filter: usize) -> bool {
        let mut globals = self.card.globals();
        let taken = globals.filters.give_back(filter);
        if taken {
            filters::release(&self.card.bus, filter);
        }
        taken
    }
}

impl<B: Bus> Device for Ixgbe<B> {
    fn name(&self) -> &str {
        &self.name
    }

    fn mac(&self) -> MacAddr {
        self.mac
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            mtu: self.card.config.mtu,
            tx_checksum: true,
            tx_segmentation: true,
            rx_coalescing: self.card.config.coalescing,
            queues: self.card.config.queues,
        }
    }

    /// By the table that it starts with.
    fn rss(&self) -> Option<Rss> {
        let config = &self.card.config;
        // At most `MAX_QUEUES`, which fits.
        let queues = config.queues.min(rss::MAX_QUEUES) as u16;
        (queues > 1).then(|| Rss::new(config.rss_key, queues))
    }

    /// A queue that was dropped can be opened again.
    fn open_queue(&mut self, index: usize) -> Result<Box<dyn Queue>, Error> {
        let queues = self.card.config.queues;
        let mut globals = self.card.globals();
        if index >= queues || globals.open >> index & 1 != 0 {
            return Err(no_such_queue(&self.name, index, queues));
        }
        globals.open |= 1 << index;
        drop(globals);
        match IxgbeQueue::open(Arc::clone(&self.card), index) {
            Ok(queue) => Ok(Box::new(queue)),
            Err(error) => {
                self.card.close(index);
                Err(error)
            }
        }
    }
}

impl<B: Bus> Card<B> {
    fn globals(&self) -> MutexGuard<'_, Globals> {
        self.globals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The queue's rings are gone.
    pub fn close(&self, queue: usize) {
        self.globals().open &= !(1 << queue);
    }
}

impl<B: Bus> Drop for Card<B> {
    fn drop(&mut self) {
        reset::stop(&self.bus);
        let mut globals = self.globals();
        globals.statistics.collect(&self.bus);
        tracing::info!(device = self.bus.name(), port = ?globals.statistics, "card stopped");
    }
}
